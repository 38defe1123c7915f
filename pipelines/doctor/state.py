"""State of a workspace: sizes, commands at work, and what is damaged, stale, unfinished or left over."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipelines import artifacts
from pipelines.doctor import mend
from pipelines.doctor.report import ADVICE, BROKEN, LEFT_OVER, STALE, UNFINISHED, Fact, Problem
from pipelines.durable import is_locked
from pipelines.errors import UserError
from pipelines.formats import FORMAT_VERSION
from pipelines.housekeeping.parts import (
    DATASET,
    EMBEDDINGS,
    EVALUATION,
    KINDS,
    RUN,
    SIDS,
    all_parts,
    size_of,
)
from pipelines.housekeeping.use import LOCKED, WORK
from pipelines.inventory import DatasetView, RunView, overview
from pipelines.workspace import Run, Workspace

INSIDE = {DATASET: (EMBEDDINGS, SIDS), RUN: (EVALUATION,)}  # kind → kinds that lie inside and count apart


@dataclass(frozen=True)
class Size:
    """Number of parts of a kind and their bytes."""

    kind: str
    count: int
    bytes: int


@dataclass(frozen=True)
class InUse:
    """Folder that a running command holds the lock of.

    Attributes:
        folder: path in the workspace.
        work: work of the command.
    """

    folder: str
    work: str


def facts(workspace: Workspace) -> tuple[list[Fact], list[Problem]]:
    """Return facts about a workspace as a whole, and their problems."""
    root, problems = workspace.root, []
    listed = [Fact("path", str(root.absolute())), Fact("format of this version", FORMAT_VERSION)]
    if not root.exists():
        problems.append(Problem(ADVICE, "workspace", f"{root} does not exist yet", "maskgr download ml-100k"))
        return listed, problems
    try:
        recorded = artifacts.read_json(workspace.config) if workspace.config.exists() else {}
        current = workspace.current
    except UserError as error:
        command = shlex.join(["rm", str(workspace.config)])
        problems.append(Problem(BROKEN, "workspace.json", str(error).rstrip("."), command))
        return listed, problems
    listed += [Fact("format", recorded.get("format")), Fact("current data set", current)]
    names = [dataset.name for dataset in workspace.datasets]
    if current and current not in names:
        reason = f"the current data set {current} does not exist"
        command = f"maskgr train --dataset {names[0]}" if names else "maskgr download ml-100k"
        problems.append(Problem(ADVICE, "workspace.json", reason, command))
    if not os.access(root, os.W_OK):
        reason = "the workspace can be read only"
        problems.append(Problem(ADVICE, "workspace", reason, shlex.join(["chmod", "u+w", str(root)])))
    return listed, problems


def sizes(workspace: Workspace) -> list[Size]:
    """Return the number and the bytes of the parts of each kind, and of results of grids."""
    measured = {kind: [part.size for part in all_parts(workspace, kind)] for kind in KINDS}
    totals = {kind: sum(of_kind) for kind, of_kind in measured.items()}
    rows = [
        Size(
            kind.name,
            len(measured[kind]),
            totals[kind] - sum(totals[other] for other in INSIDE.get(kind, ())),
        )
        for kind in KINDS
    ]
    results = [*workspace.run_results.glob("*.json")]
    return [*rows, Size("result of a grid", len(results), size_of(workspace.run_results))]


def in_use(workspace: Workspace) -> list[InUse]:
    """Return the folders that running commands hold the locks of."""
    held = [(part.path, LOCKED[part.kind]) for part in all_parts(workspace, *LOCKED) if is_locked(part.path)]
    held += [(folder, "writing") for folder in _working_folders(workspace) if is_locked(folder)]
    return [InUse(str(folder.relative_to(workspace.root)), work) for folder, work in held]


def problems(workspace: Workspace) -> list[Problem]:
    """Return what is damaged, stale, unfinished or left over.

    An artifact comes after those that it is made from, so that the commands mend everything in their order.
    """
    view = overview(workspace)
    return [
        *_of_datasets(workspace, view.datasets),
        *_of_runs(workspace, view.runs),
        *_left_over(workspace),
    ]


def _of_datasets(workspace: Workspace, views: list[DatasetView]) -> Iterator[Problem]:
    for view in views:
        dataset = workspace.dataset(view.name)
        folder = f"datasets/{view.name}"
        if view.stale:
            damaged = None in (view.users, view.items, view.interactions)
            yield _artifact(folder, view.stale, damaged, mend.dataset_command(dataset))
        for e in view.embeddings:
            if e.stale:
                command = mend.embeddings_command(dataset, e.name)
                yield _artifact(f"{folder}/embeddings/{e.name}", e.stale, e.width is None, command)
        for s in view.sids:
            if s.stale:
                command = mend.sids_command(dataset, s.name)
                yield _artifact(f"{folder}/sids/{s.name}", s.stale, s.digits is None, command)


def _artifact(name: str, reason: str, damaged: bool, command: str) -> Problem:
    return Problem(BROKEN if damaged else STALE, name, reason, command)


def _of_runs(workspace: Workspace, views: list[RunView]) -> Iterator[Problem]:
    for view in views:
        run = workspace.run(view.name)
        yield from _of_training(run, view)
        if run.anew.config.exists() and not is_locked(run.path):
            reason = "a new training that is to replace it was interrupted"
            command = f"maskgr train --resume --name {view.name}"
            yield Problem(UNFINISHED, f"runs/{view.name}", reason, command)
        for evaluation in view.evaluations:
            if evaluation.stale:
                name = f"runs/{view.name}/eval/{evaluation.name}"
                command = mend.eval_command(run, evaluation.name)
                yield _artifact(name, evaluation.stale, evaluation.users is None, command)


def _of_training(run: Run, view: RunView) -> Iterator[Problem]:
    """Yield the problem of a run's own files, if there is one."""
    name, state, config = f"runs/{run.name}", view.config.get("state"), dict(view.config)
    again = mend.run_command(run, config)
    if not config:
        yield Problem(BROKEN, name, view.stale or "config.json cannot be read", again)
    elif state == "finished" and not run.weights.exists():
        yield Problem(BROKEN, name, f"{run.weights.name} does not exist", again)
    elif view.stale:
        yield Problem(STALE, name, view.stale, again)
    elif state == "diverged":
        command = f"{again} --learning-rate …"
        yield Problem(UNFINISHED, name, f"it diverged at step {config.get('steps', 0)}", command)
    elif state in ("running", "interrupted") and not is_locked(run.path):
        reason = f"it was interrupted at step {config.get('steps', 0)}"
        yield Problem(UNFINISHED, name, reason, f"maskgr train --resume --name {run.name}")


def _left_over(workspace: Workspace) -> Iterator[Problem]:
    """Yield folders that killed commands left."""
    for part in all_parts(workspace, RUN):
        if not (part.path / "config.json").exists() and not is_locked(part.path):
            reason = "its training was killed before it was recorded"
            yield Problem(LEFT_OVER, part.name, reason, f"maskgr rm {part.name}")
    for folder in _working_folders(workspace):
        if is_locked(folder):
            continue
        name = str(folder.relative_to(workspace.root))
        size = f"{size_of(folder) / 2**20:,.1f} MiB"
        if folder.name.endswith(".parts"):
            dataset = folder.parent.parent.name
            reason = f"{size} of batches wait for the same `maskgr embed` to continue"
            yield Problem(UNFINISHED, name, reason, f"maskgr embed --dataset {dataset} --encoder …")
        else:
            reason = f"a killed command left {size}"
            yield Problem(LEFT_OVER, name, reason, shlex.join(["rm", "-r", str(folder)]))


def _working_folders(workspace: Workspace) -> list[Path]:
    """Return the folders in which commands write before a result is complete."""
    return sorted(folder for pattern in WORK for folder in workspace.root.rglob(pattern) if folder.is_dir())
