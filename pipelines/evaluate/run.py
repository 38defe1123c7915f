"""Evaluate a trained run: recommendations, ranks and metrics as artifacts, and the popularity row beside them."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from accelerate import PartialState

from pipelines import artifacts
from pipelines.data.sequences import load_sequences
from pipelines.data.splits import Split, histories, training
from pipelines.decode.config import CONFIDENCE, Decoding, options
from pipelines.decode.index import PartialIndex
from pipelines.errors import UserError
from pipelines.evaluate.capabilities import resolve_decoding, unsupported, without
from pipelines.evaluate.metrics import metrics_table, ranks_table
from pipelines.evaluate.popularity import recommend_popular
from pipelines.evaluate.recommend import recommend, say_truncated
from pipelines.evaluate.report import read_metrics, write_evaluation
from pipelines.models.base import DigitModel
from pipelines.models.loading import Trained, load_run
from pipelines.models.nn.precision import autocast
from pipelines.processes import Processes, process_state
from pipelines.progress import Progress
from pipelines.workspace import Run, Workspace


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Where an evaluation lies and what it found.

    Attributes:
        folder: ranks, recommendations and metrics.
        description: what was decoded and how, in a line.
        metrics: of the run; an artifact of kind "metrics".
        popularity: of the most popular items, for the same users, candidates and list length.
    """

    folder: Path
    description: str
    metrics: pa.Table
    popularity: pa.Table


def evaluate_run(
    workspace: Workspace,
    run: Run,
    decoding: Decoding,
    progress: Progress,
    *,
    split: str = "test",
    horizon: int | None = None,
    tokens: int | None = None,
    precision: str = "auto",
    force: bool = False,
    among: bool = False,
) -> Evaluation:
    """Decode recommendations for every user of a split and measure them.

    Args:
        split: "test" or "validation".
        ahead: items k to recommend; must be what the run was trained for, which is the default.
        tokens: most tokens in one forward pass, see `recommend`.
        precision: of matrix products, see `models.precision`; scores are float32 in any.
        force: decode again even where the evaluation is up to date.
        among: the run is one of several that are compared: settings that mean nothing to its model are left out, and said.

    Raises:
        UserError: the run or its data cannot be used, or the decoding asks for more than the digits allow.
    """
    state = process_state()
    trained = load_run(workspace, run, state.device)
    if horizon not in (None, trained.horizon):
        raise UserError(
            f"--horizon {horizon}: the run was trained with --horizon {trained.horizon}. Train one with: maskgr train --horizon {horizon}"
        )
    horizon = trained.horizon
    if among and (idle := unsupported(decoding, trained.model)):
        progress.say(
            f"{options(idle)} means nothing to {run.name}, a {trained.model.config.name}, and is left out there."
        )
        decoding = without(decoding, idle)
    decoding = resolve_decoding(decoding, trained.model)
    if digits := isinstance(trained.model, DigitModel):
        _refuse(trained, decoding, horizon)
    sequences = load_sequences(trained.dataset.sequences, trained.catalogue.items)
    users = histories(sequences, split, horizon)
    prefixes = [split] * (split != "test") + [f"next{horizon}"] * (horizon > 1)
    folder = run.evaluation("-".join((*prefixes, decoding.name)))
    config = {
        **dataclasses.asdict(decoding),
        "split": split,
        "run": run.name,
        "precision": precision,
        "horizon": horizon,
        "reveals": list(decoding.unmask_schedule(horizon * trained.model.digits)) if digits else [],
    }
    reason = artifacts.stale(folder / "metrics.parquet", config, trained.inputs)
    if reason is None and not force:
        progress.say(f"{run.name} is evaluated already ({folder}); --force does it again.")
    else:
        T = len(config["reveals"])
        if digits and trained.model.uses_item_softmax and horizon == 1 and T > 1:
            progress.say(
                f"The digits of this run are joint: --nfe 1 ranks the whole catalogue exactly, in one evaluation instead of {T}."
            )
        _evaluate(trained, users, decoding, state, progress, tokens, folder, config)
    popular = recommend_popular(
        training(sequences, horizon), users, trained.catalogue.items, decoding.beams, decoding.exclude_seen
    )
    nobody = np.zeros(len(users), np.int32)
    popular = np.repeat(popular[:, :, None], horizon, axis=2)  # the same items at each place
    popularity = metrics_table(ranks_table(users, popular, nobody, nobody), decoding.beams)
    return Evaluation(folder, describe(trained, decoding, horizon), read_metrics(folder), popularity)


def _refuse(trained: Trained, decoding: Decoding, horizon: int) -> None:
    """Raise before any work what a run that reveals digits cannot do."""
    decoding.unmask_schedule(horizon * trained.model.digits)
    if decoding.remask and horizon > 1:
        raise UserError(f"--remask works on one item, not on the {horizon} of this run. Leave it out.")
    if decoding.order == CONFIDENCE and horizon > 1:
        raise UserError(
            f"--unmask {CONFIDENCE} works on one item, not on the {horizon} of this run. Take another order."
        )
    refuse_approximate(trained, decoding)
    if not decoding.constrained and trained.model.uses_item_softmax:
        raise UserError(
            "--no-constrained means nothing to a run with --likelihood item: what is no item has no probability. Leave it out."
        )


def refuse_approximate(trained: Trained, decoding: Decoding) -> None:
    """Raise where encoding histories once is what the run does anyway."""
    if decoding.approximate and trained.model.encodes_once:
        raise UserError(
            "--approximate means nothing to a run with prefix attention: it encodes histories once, exactly. Leave it out."
        )


def describe(trained: Trained, decoding: Decoding, horizon: int = 1) -> str:
    """Data set, model and decoding, with the digits that each evaluation reveals."""
    traits = "".join(f" · {trait}" for trait in trained.model.config.traits)
    seen = ", unseen items" if decoding.exclude_seen else ""
    if decoding.retrieval == "ranking":
        steps = f", {decoding.nfe} evaluation{'s' * (decoding.nfe > 1)}" if decoding.nfe else ""
        steps += f", guidance {decoding.guidance:g}" if decoding.guidance else ""
        return f"{trained.dataset.name}{traits} · {decoding.beams} of {trained.catalogue.items:,} items{steps}{seen}"
    if decoding.retrieval == "dense":
        what = f"dense retrieval, {decoding.beams} of {trained.catalogue.items:,} items{seen}"
        return f"{trained.dataset.name} · text embeddings predicted by {trained.model.config.dense_from} · {what}"
    H, split = trained.model.digits, decoding.unmask_schedule(horizon * trained.model.digits)
    allowed = "constrained" if decoding.constrained else "unconstrained"
    allowed += ", then the nearest items" if decoding.nearest else ""
    allowed += seen
    allowed += f", guidance {decoding.guidance:g}" if decoding.guidance else ""
    allowed += ", histories encoded once (approximate)" if decoding.approximate else ""
    reveals = "+".join(map(str, split))
    reveals += " digits" + (f", then {decoding.remask} remasked" if decoding.remask else "")
    T = len(split) + decoding.remask
    how = f"{decoding.order}, {T} evaluation{'s' * (T > 1)} ({reveals}), {decoding.beams} beams, {allowed}"
    how = f"unified retrieval: {how}" if decoding.retrieval == "unified" else how
    items = f" · {horizon} items ahead, average session recall" if horizon > 1 else ""
    return f"{trained.dataset.name}{items}{traits} · {H} digits of {trained.model.codes} codes · {how}"


def _evaluate(
    trained: Trained,
    users: Split,
    decoding: Decoding,
    state: PartialState,
    progress: Progress,
    tokens: int | None,
    folder: Path,
    config: dict,
) -> None:
    say_truncated(users, trained.model.config.max_items, progress)
    index = None
    if isinstance(trained.model, DigitModel):
        index = PartialIndex(
            trained.catalogue.sids, trained.catalogue.codes, decoding.reachable(trained.model.digits)
        )
        progress.say(
            f"Index of {len(index.partials):,} partial SIDs: {index.bytes / 2**20:.1f} MiB, built in {index.seconds:.2f} s."
        )
    started = time.monotonic()
    with autocast(config["precision"], state.device):
        found = recommend(
            trained.model, users, index, decoding, progress, tokens=tokens, processes=Processes.started()
        )
    seconds = time.monotonic() - started
    progress.say(f"Decoded {len(users):,} users in {seconds:.1f} s: {len(users) / seconds:,.0f} users/s.")
    if state.is_main_process:
        write_evaluation(
            folder,
            split=users,
            recommended=found.items,
            scores=found.scores,
            invalid=found.invalid,
            duplicates=found.duplicates,
            config=config,
            inputs=trained.inputs,
            seconds=seconds,
        )
    state.wait_for_everyone()
