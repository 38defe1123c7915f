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
from pipelines.decode.config import Decoding
from pipelines.decode.index import PartialIndex
from pipelines.errors import UserError
from pipelines.evaluate.metrics import metrics_table, ranks_table
from pipelines.evaluate.popularity import recommend_popular
from pipelines.evaluate.protocol import Split, histories, load_sequences, training
from pipelines.evaluate.recommend import recommend, say_truncated
from pipelines.evaluate.report import read_metrics, write_evaluation
from pipelines.models.precision import autocast
from pipelines.models.trained import Trained, load_run
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
    ahead: int | None = None,
    tokens: int | None = None,
    precision: str = "auto",
    force: bool = False,
) -> Evaluation:
    """Decode recommendations for every user of a split and measure them.

    Args:
        split: "test" or "validation".
        ahead: items k to recommend; must be what the run was trained for, which is the default.
        tokens: most tokens in one forward pass, see `recommend`.
        precision: of matrix products, see `models.precision`; scores are float32 in any.
        force: decode again even where the evaluation is up to date.

    Raises:
        UserError: the run or its data cannot be used, or the decoding asks for more than the digits allow.
    """
    state = process_state()
    trained = load_run(workspace, run, state.device)
    if ahead not in (None, trained.ahead):
        raise UserError(f"--next {ahead}: the run was trained with --next {trained.ahead}. Train one with: maskgr train --next {ahead}")
    ahead = trained.ahead
    _refuse(trained, decoding, ahead)
    sequences = load_sequences(trained.dataset.sequences, len(trained.catalogue.sids))
    users = histories(sequences, split, ahead)
    prefixes = [split] * (split != "test") + [f"next{ahead}"] * (ahead > 1)
    folder = run.evaluation("-".join((*prefixes, decoding.name)))
    config = {
        **dataclasses.asdict(decoding),
        "split": split,
        "run": run.name,
        "precision": precision,
        "next": ahead,
        "reveals": list(decoding.split(ahead * trained.model.digits)),
    }
    reason = artifacts.stale(folder / "metrics.parquet", config, trained.inputs)
    if reason is None and not force:
        progress.say(f"{run.name} is evaluated already ({folder}); --force does it again.")
    else:
        T = len(config["reveals"])
        if trained.model.joint and ahead == 1 and T > 1:
            progress.say(f"The digits of this run are joint: --nfe 1 ranks the whole catalogue exactly, in one evaluation instead of {T}.")
        _evaluate(trained, users, decoding, state, progress, tokens, folder, config)
    popular = recommend_popular(training(sequences, ahead), users, len(trained.catalogue.sids), decoding.beams, decoding.unseen)
    nobody = np.zeros(len(users), np.int32)
    popular = np.repeat(popular[:, :, None], ahead, axis=2)  # the same items at each place
    popularity = metrics_table(ranks_table(users, popular, nobody, nobody), decoding.beams)
    return Evaluation(folder, describe(trained, decoding, ahead), read_metrics(folder), popularity)


def _refuse(trained: Trained, decoding: Decoding, ahead: int) -> None:
    """Raise before any work what the run cannot do."""
    if decoding.retrieval != "generative" and trained.model.dense is None:
        raise UserError(f"--retrieval {decoding.retrieval} needs a run that predicts text embeddings. Train one with: maskgr train --dense")
    decoding.split(ahead * trained.model.digits)
    if decoding.remask and ahead > 1:
        raise UserError(f"--remask works on one item, not on the {ahead} of this run. Leave it out.")
    refuse_approximate(trained, decoding)
    if not decoding.constrained and trained.model.joint:
        raise UserError("--no-constrained means nothing to a run with --likelihood item: what is no item has no probability. Leave it out.")
    if decoding.guidance and not trained.training.get("forget"):
        raise UserError("--guidance needs a run that has learnt to do without a history. Train one with: maskgr train --forget 0.1")


def ours(trained: Trained) -> list[str]:
    """What makes a model another than the paper's."""
    sizes = trained.model.config
    parts = (
        ("prefix attention", sizes.attention == "prefix"),
        ("item tokens", sizes.tokens == "item"),
        ("item embeddings", sizes.item_embeddings),
        ("joint digits", sizes.likelihood == "item"),
    )
    return [name for name, holds in parts if holds]


def refuse_approximate(trained: Trained, decoding: Decoding) -> None:
    """Raise where encoding histories once is what the run does anyway."""
    if decoding.approximate and trained.model.prefix:
        raise UserError("--approximate means nothing to a run with prefix attention: it encodes histories once, exactly. Leave it out.")


def describe(trained: Trained, decoding: Decoding, ahead: int = 1) -> str:
    """Data set, semantic IDs and decoding, with the digits that each evaluation reveals."""
    if decoding.retrieval == "dense":
        what = f"dense retrieval, {decoding.beams} of {len(trained.catalogue.sids):,} items" + (", unseen items" if decoding.unseen else "")
        return f"{trained.dataset.name} · text embeddings predicted by layer {trained.model.config.dense_depth} · {what}"
    H, split = trained.model.digits, decoding.split(ahead * trained.model.digits)
    allowed = "constrained" if decoding.constrained else "unconstrained"
    allowed += ", unseen items" if decoding.unseen else ""
    allowed += f", guidance {decoding.guidance:g}" if decoding.guidance else ""
    allowed += ", histories encoded once (approximate)" if decoding.approximate else ""
    reveals = "+".join(map(str, split))
    reveals += " digits" + (f", then {decoding.remask} remasked" if decoding.remask else "")
    T = len(split) + decoding.remask
    how = f"{decoding.unmask}, {T} evaluation{'s' * (T > 1)} ({reveals}), {decoding.beams} beams, {allowed}"
    how = f"unified retrieval: {how}" if decoding.retrieval == "unified" else how
    items = f" · {ahead} items ahead, average session recall" if ahead > 1 else ""
    items += "".join(f" · {name}" for name in ours(trained))
    return f"{trained.dataset.name}{items} · {H} digits of {trained.model.codes} codes · {how}"


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
    index = PartialIndex(trained.catalogue.sids, trained.catalogue.codes, decoding.reachable(trained.catalogue.digits))
    progress.say(f"Index of {len(index.partials):,} partial SIDs: {index.bytes / 2**20:.1f} MiB, built in {index.seconds:.2f} s.")
    started = time.monotonic()
    with autocast(config["precision"], state.device):
        found = recommend(trained.model, users, index, decoding, progress, tokens=tokens, processes=Processes.started())
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
