"""Evaluation of a trained run: recommendations, ranks and metrics as artifacts, and the popularity row beside
them.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from accelerate import PartialState

from pipelines import artifacts
from pipelines.data.held_out import HeldOut
from pipelines.data.splits import Split
from pipelines.data.stored import StoredSequences
from pipelines.decode.build_index import build_index
from pipelines.decode.config import Decoding, options
from pipelines.decode.sid_index import SidIndex
from pipelines.errors import UserError, enough_memory
from pipelines.evaluate.beside import Beside, measure_beside
from pipelines.evaluate.capabilities import (
    check_horizon,
    refuse_final,
    resolve_decoding,
    unsupported,
    without,
)
from pipelines.evaluate.config import EvalConfig
from pipelines.evaluate.describe import describe, describe_new_items
from pipelines.evaluate.popularity import measure_popularity
from pipelines.evaluate.recommend import pass_tokens, recommend_chunks, say_truncated
from pipelines.evaluate.report import evaluation_files, read_metrics
from pipelines.models.base import DigitModel
from pipelines.models.loading import TrainedRun, load_run
from pipelines.models.nn.precision import autocast
from pipelines.processes import Processes, from_first, process_state
from pipelines.progress import Progress
from pipelines.temporal import TemporalSplit
from pipelines.workspace import Run, Workspace


@dataclass(frozen=True, eq=False)
class Evaluation:
    """An evaluation's folder and metrics.

    Attributes:
        folder: folder of ranks, recommendations and metrics.
        description: data set, model and decoding, in a line.
        metrics: of the run; an artifact of kind "metrics".
        popularity: of the most popular items, for the same users, candidates and list length.
        beside: function that measures what there is beside these.
    """

    folder: Path
    description: str
    metrics: pa.Table
    popularity: pa.Table
    beside: Callable[[], Beside]


def evaluate_run(
    workspace: Workspace,
    run: Run,
    config: EvalConfig,
    progress: Progress,
    *,
    force: bool = False,
    among: bool = False,
) -> Evaluation:
    """Decode recommendations for every user of a split and measure them.

    Args:
        workspace: folder of all artifacts.
        run: run to be evaluated.
        config: what to decode and how.
        progress: where progress is reported.
        force: if true, decode again even where the evaluation is up to date.
        among: if true, the run is one of several that are compared: settings without effect on its model are
            left out, and reported, instead of refused.

    Raises:
        UserError: the run or its data cannot be used, or the model does not support the decoding.
    """
    refuse_final(run)
    state = process_state()
    trained = load_run(workspace, run, state.device)
    config = _resolved(config, trained, run, progress, among)
    if line := describe_new_items(trained, run.name):
        progress.say(line)
    if split := TemporalSplit.of(trained.dataset.sequences):
        progress.say(split.measured(config.split, trained.dataset.name))
    stored = StoredSequences(trained.dataset.sequences, trained.catalogue.items)
    counts = trained.training_counts(stored, Processes.started())
    everyone = HeldOut(stored, config.split, trained.horizon, np.flatnonzero(counts))
    users = everyone.sample(config.users or len(everyone), config.decoding.seed)
    folder = run.evaluation(_name(config, trained.horizon))
    recorded = _recorded(config, trained, run)
    stale = from_first(artifacts.stale(folder / "metrics.parquet", recorded, trained.inputs))
    if stale is None and not force:
        progress.say(f"{run.name} is evaluated already ({folder}); --force does it again.")
    else:
        _evaluate(trained, users, config, state, progress, folder, recorded)
    metrics = read_metrics(folder)
    decoding = config.decoding
    popularity = measure_popularity(
        counts, users, decoding.beams, decoding.exclude_seen, apart=trained.is_cold
    )
    beside = partial(measure_beside, folder, users, counts, config, trained.dataset)
    return Evaluation(folder, describe(trained, config.decoding), metrics, popularity, beside)


def _resolved(
    config: EvalConfig, trained: TrainedRun, run: Run, progress: Progress, among: bool
) -> EvalConfig:
    """Return the settings with the run's horizon and the model's defaults; refuse what the run does not
    support.
    """
    if config.horizon not in (None, trained.horizon):
        raise UserError(
            f"--horizon {config.horizon}: the run was trained with --horizon {trained.horizon}. Train one "
            f"with: maskgr train --horizon {config.horizon}"
        )
    decoding = config.decoding
    if among and (settings := unsupported(decoding, trained.model)):
        flags = ", ".join(options(settings))
        progress.say(f"Left out, without effect on {run.name} ({trained.model.config.name}): {flags}.")
        decoding = without(decoding, settings)
    decoding = resolve_decoding(decoding, trained.model, trained.horizon)
    check_horizon(decoding, trained.model, trained.horizon)
    return dataclasses.replace(config, decoding=decoding, horizon=trained.horizon)


def _name(config: EvalConfig, horizon: int) -> str:
    """Return the name of an evaluation's folder, e.g. "validation-greedy-k20-constrained"."""
    prefixes = [config.split] * (config.split != "test") + [f"horizon{horizon}"] * (horizon > 1)
    prefixes += [f"users{config.users}"] * (config.users is not None)
    return "-".join((*prefixes, config.decoding.name))


def _recorded(config: EvalConfig, trained: TrainedRun, run: Run) -> dict[str, Any]:
    """Return the settings that the evaluation depends on, as its artifacts record them."""
    model, unmasked = trained.model, []
    if isinstance(model, DigitModel):
        unmasked = list(config.decoding.unmask_schedule(trained.horizon * model.digits))
    sampled = {} if config.users is None else {"users": config.users}
    return {
        **dataclasses.asdict(config.decoding),
        **sampled,
        "split": config.split,
        "run": run.name,
        "precision": config.precision,
        "horizon": trained.horizon,
        "unmasked": unmasked,
    }


def _evaluate(
    trained: TrainedRun,
    users: Split | HeldOut,
    config: EvalConfig,
    state: PartialState,
    progress: Progress,
    folder: Path,
    recorded: dict[str, Any],
) -> None:
    """Decode for all users and write the evaluation, a chunk of users at a time."""
    model, most, cut = trained.model, trained.model.config.max_items, 0
    index = _index(trained, config.decoding, progress) if isinstance(model, DigitModel) else None
    started = time.monotonic()
    tokens, beams = config.tokens or pass_tokens(state.device), config.decoding.beams
    advice = f"Lower --tokens ({tokens:,}) or --beams ({beams:,})."
    written = evaluation_files(
        folder,
        config.decoding.beams,
        config=recorded,
        inputs=trained.inputs,
        started=started,
        warm_items=users.warm_items if trained.is_cold else None,
    )
    written_here = written if state.is_main_process else nullcontext()
    in_precision = autocast(config.precision, state.device)
    with enough_memory("evaluate the run", advice), written_here as files, in_precision:
        chunks = recommend_chunks(
            *(model, users, index, config.decoding, progress),
            tokens=config.tokens,
            processes=Processes.started(),
        )
        for split, found in chunks:
            cut += split.truncated(most)
            if files:
                files.add(split, found)
        seconds = time.monotonic() - started
    say_truncated(cut, len(users), most, progress)
    progress.say(f"Decoded {len(users):,} users in {seconds:.1f} s: {len(users) / seconds:,.0f} users/s.")
    state.wait_for_everyone()


def _index(trained: TrainedRun, decoding: Decoding, progress: Progress) -> SidIndex:
    """Return the index of the partial semantic IDs that the decoding can reach."""
    sids = trained.catalogue.require_sids()
    index = build_index(sids, trained.catalogue.codes, decoding.reachable(sids.shape[1]))
    progress.say(f"Index of {index.content}: {index.bytes / 2**20:.1f} MiB, built in {index.seconds:.2f} s.")
    return index
