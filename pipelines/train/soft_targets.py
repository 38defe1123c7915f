"""Soft targets of a data set as an artifact: the teachers' best items at each place of the training
sequences.

A row is a place: an item of a training sequence, sequence after sequence. Row groups are chunks of users.
Each is computed into a file of its own first, so that an interrupted computation goes on at the chunks that
are whole; together they become the artifact, which all students of the same teachers share.

Shapes: P places, K items of a place."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import artifacts
from pipelines.artifact_parts import write_parts
from pipelines.data.groups import Groups, training_groups
from pipelines.data.sequences import Sequences
from pipelines.data.stored import StoredSequences
from pipelines.models.base import Recommender
from pipelines.processes import Processes, command_lock, from_first, process_state
from pipelines.progress import Progress
from pipelines.train.plan import Plan
from pipelines.train.teachers import load_teachers
from pipelines.train.teaching import best_items
from pipelines.workspace import Dataset, Workspace

KIND = "targets"
CHUNK = 1 << 15  # places of a row group, about


def ensure_soft_targets(
    workspace: Workspace, plan: Plan, weights: Mapping[str, str], n_items: int, progress: Progress
) -> Path:
    """Return the file of a plan's soft targets, which are computed if they do not exist.

    Args:
        workspace: workspace of the student and its teachers.
        plan: plan of the student.
        weights: sha256 of the weights of each teacher, by name of the run.
        n_items: N.
        progress: receives messages and progress.

    Raises:
        UserError: a teacher cannot be used, or the file cannot be written.
    """
    dataset, config = workspace.require_dataset(plan.dataset), settings(plan, weights)
    path = dataset.targets(_name(config))
    parts = path.with_name(f".{path.stem}.parts")

    def is_stale() -> bool:
        return from_first(artifacts.stale(path, config, {"sequences": dataset.sequences}) is not None)

    if not is_stale():
        progress.say(f"Soft targets of {', '.join(weights)} exist already ({path}).")
        return path
    waiting = "Waiting for another command that computes the same soft targets."
    with command_lock(parts, lambda: progress.say(waiting)):
        if is_stale():  # else another command has made them meanwhile
            _build(workspace, plan, weights, n_items, path, parts, progress)
    return path


def settings(plan: Plan, weights: Mapping[str, str]) -> dict[str, Any]:
    """Return everything that decides a plan's soft targets besides the sequences, as JSON values.

    The order of the teachers does not matter.
    """
    train, cold = plan.train, plan.train.cold
    return {
        "teachers": sorted(weights.values()),
        "items": train.teacher_items,
        "horizon": train.horizon,
        "whole": plan.final is not None,
        **({"cold": cold, "seed": train.seed} if cold else {}),
    }


def _name(config: Mapping[str, Any]) -> str:
    """Return the name of soft targets with some settings, such as "2x128-0f3c5a9be1"."""
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
    return f"{len(config['teachers'])}x{config['items']}-{digest[:10]}"


def _build(
    workspace: Workspace,
    plan: Plan,
    weights: Mapping[str, str],
    n_items: int,
    path: Path,
    parts: Path,
    progress: Progress,
) -> None:
    """Compute the chunks that are missing, and write the artifact."""
    started, state = time.monotonic(), process_state()
    dataset = workspace.require_dataset(plan.dataset)
    stored = StoredSequences(dataset.sequences, n_items)
    groups, known = places_of(plan, stored, n_items)
    folder = parts / artifacts.digest(dataset.sequences)[:16]
    finished = from_first({file.name: _rows(file) for file in folder.glob("*.parquet")})
    if finished:
        progress.say(f"{len(finished):,} parts of the soft targets were computed before and are kept.")
    teachers: list[Recommender] = load_teachers(workspace, plan, weights, state.device)
    state.wait_for_everyone()  # no process writes before all have looked
    count, files = plan.train.teacher_items, []
    with progress.task("Soft targets", total=_count(plan, stored), unit="places") as task:
        for number, (name, sequences) in enumerate(_chunks(groups)):
            files.append(folder / name)
            if finished.get(name) == len(sequences.items):
                task.advance(len(sequences.items))
            elif number % state.num_processes == state.process_index:
                found = best_items(teachers, sequences, count, known, task.advance)
                artifacts.write(folder / name, KIND, _table(*found), config={})
    state.wait_for_everyone()
    if state.is_main_process:
        mass = _assemble(workspace, dataset, files, path, settings(plan, weights), weights, started)
        size = path.stat().st_size / 2**20
        progress.say(
            f"Soft targets of {', '.join(weights)}: the best {count} items of each place hold {mass:.0%} of "
            f"the probability; {size:,.0f} MiB, {time.monotonic() - started:,.0f} s ({path})."
        )
        shutil.rmtree(parts, ignore_errors=True)
    state.wait_for_everyone()


def places_of(
    plan: Plan, stored: StoredSequences, n_items: int, processes: Processes | None = None
) -> tuple[Groups, np.ndarray | None]:
    """Return the sequences whose items are the places, in groups; and the items that the model is over,
    int64, ascending, None for all.

    They are the training sequences, without the items that validation and test hold out. A final run trains
    on whole sequences.
    """
    train = plan.train
    if plan.final:
        return stored.groups, None
    groups = training_groups(stored.groups, n_items, train.horizon, train.cold, train.seed, processes)
    known = np.flatnonzero(groups.item_counts(n_items, processes or Processes())) if train.cold else None
    return groups, known


def _count(plan: Plan, stored: StoredSequences) -> int:
    """Return the number of places; with `--cold` or a temporal split an upper bound."""
    whole = plan.final or stored.is_temporal
    held_out = 0 if whole else 2 * plan.train.horizon * len(stored)
    return stored.interactions - held_out


def _chunks(groups: Groups) -> Iterator[tuple[str, Sequences]]:
    """Yield the name of a file and the sequences of one chunk of users after another."""
    for group in range(len(groups)):
        sequences = groups.read(group)
        ends = sequences.offsets[1:]
        cuts = np.flatnonzero(np.diff(np.maximum(ends - 1, 0) // CHUNK)) + 1  # users that begin a chunk
        bounds = [0, *cuts.tolist(), len(sequences)]
        for first, last in zip(bounds[:-1], bounds[1:], strict=True):
            offsets = sequences.offsets[first : last + 1]
            if offsets[-1] > offsets[0]:
                items = sequences.items[offsets[0] : offsets[-1]]
                yield f"{group:07d}-{first:09d}.parquet", Sequences(items, offsets - offsets[0])


def _rows(file: Path) -> int | None:
    """Return the number of rows of a part; None if it is damaged."""
    try:
        return int(pq.read_metadata(file).num_rows)
    except (OSError, pa.ArrowException):
        return None


def _table(items: np.ndarray, probabilities: np.ndarray) -> pa.Table:
    columns = {"items": items, "probabilities": probabilities}
    return pa.table({name: artifacts.fixed_size_list(values) for name, values in columns.items()})


def _assemble(
    workspace: Workspace,
    dataset: Dataset,
    files: list[Path],
    path: Path,
    config: Mapping[str, Any],
    weights: Mapping[str, str],
    started: float,
) -> float:
    """Write the artifact from its parts, and return the mean probability of the items of a place."""
    runs = sorted(weights, key=lambda name: weights[name])
    inputs = {f"teacher {number}": workspace.run(name).weights for number, name in enumerate(runs, 1)}
    total, places = 0.0, 0
    with write_parts(
        path, KIND, config=config, inputs={"sequences": dataset.sequences, **inputs}, started=started
    ) as written:
        for file in files:
            table = artifacts.read(file, KIND, hint="Then train again.")
            mass = artifacts.matrix(table, "probabilities", file).sum(1, dtype=np.float64)
            total, places = total + mass.sum(), places + np.count_nonzero(mass)
            written.add(table)
    return total / max(1, places)
