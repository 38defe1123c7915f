"""Diagnosis of a run: how the digits of an item depend on each other, and what it costs to decide them
independently.

The paper assumes that masked digits that are unmasked together are independent given the visible ones
(section 3.2).

Shapes: B users, H digits per item, V codes per digit. A set of unmasked digits is a number whose bit h stands
for digit h. The denoiser sees all 2^H − 1 sets that leave a digit masked, so that nothing is sampled and
every walk to the target is a look-up."""

from __future__ import annotations

import dataclasses
import itertools
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from pipelines import artifacts
from pipelines.data.sequences import load_sequences
from pipelines.data.splits import Split
from pipelines.decode.build_index import build_index
from pipelines.decode.config import ORDERS, Decoding, options
from pipelines.decode.exhaustive import walk
from pipelines.errors import UserError
from pipelines.evaluate.capabilities import REASONS, refuse_final, unsupported
from pipelines.evaluate.config import EvalConfig
from pipelines.evaluate.recommend import batch_rows, pass_tokens, recommend, say_truncated
from pipelines.models.base import DigitModel
from pipelines.models.denoiser import Denoiser, IndependentDigits
from pipelines.models.loading import TrainedRun, load_run
from pipelines.models.nn.precision import autocast
from pipelines.options import has_no_effect
from pipelines.processes import Processes, from_first, process_state
from pipelines.progress import Progress
from pipelines.temporal import TemporalSplit
from pipelines.workspace import Run, Workspace

MATTERS = ("beams", "seed", "approximate")  # of a decoding; all orders and numbers of evaluations are tried


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """A diagnosis's folder and table.

    Attributes:
        folder: folder of diagnosis.parquet.
        description: data set, semantic IDs and settings, in a line.
        table: columns measure, order, evaluations, digit, revealed, value, users; an artifact of kind
            "diagnosis". Digits count from 0. `revealed` is the number of other digits that were visible
            (accuracy, nll) or the one that was (dependence).
    """

    folder: Path
    description: str
    table: pa.Table


@dataclass(frozen=True, eq=False)
class TeacherForced:
    """Predictions of the users' true next items; sums over users.

    Attributes:
        correct: number of users with the true code of a masked digit as the likeliest, float64 [2^H − 1, H],
            by set of unmasked digits.
        likelihood: log-probability of the true code of a masked digit, float64 [2^H − 1, H], by set of
            unmasked digits.
        walks: log-probability of the item, float64 [orders, H], by order and T = 1 … H.
    """

    correct: np.ndarray
    likelihood: np.ndarray
    walks: np.ndarray


def diagnose_run(
    workspace: Workspace,
    run: Run,
    config: EvalConfig,
    progress: Progress,
    *,
    force: bool = False,
    searches: bool = True,
) -> Diagnosis:
    """Measure for every user of a split how the digits of an item depend on each other, and what ignoring it
    costs.

    - accuracy, nll: share of true codes that are the likeliest, and mean −log p in nats, of each digit given
      r other digits of the target; a mean over all sets of r others.
    - dependence: mean log p(s_j | s_i, history) − log p(s_j | history) of the target, in nats.
    - joint_loss: mean log p of the target unmasked one digit per function evaluation, minus that in T
      function evaluations, in nats. Greedy order chooses anew at every evaluation, so with fewer it may take
      the digits in another order.
    - invalid_rate: share of unconstrained beams that are no item.

    Args:
        workspace: folder of all artifacts.
        run: run to be diagnosed.
        config: its split, tokens, precision, and of its decoding beams, seed and approximate.
        progress: where progress is reported.
        force: if true, measure again even where the diagnosis is up to date.
        searches: if true, measure the invalid rate too, by a beam search for each order and number of
            evaluations.

    Raises:
        UserError: the run or its data cannot be used, or a setting has no effect here.
    """
    decoding, split, precision = config.decoding, config.split, config.precision
    _check_settings(config)
    refuse_final(run)
    state = process_state()
    trained = load_run(workspace, run, state.device)
    _check_run(trained, decoding)
    users = trained.split(load_sequences(trained.dataset.sequences, trained.catalogue.items), split)
    if temporal := TemporalSplit.of(trained.dataset.sequences):
        progress.say(temporal.measured(split, trained.dataset.name))
    most = trained.model.config.max_items
    say_truncated(users.truncated(most), len(users), most, progress)
    folder = run.evaluation(_name(decoding, split) + "-digits" * (not searches))
    path = folder / "diagnosis.parquet"
    recorded = {
        **{name: getattr(decoding, name) for name in MATTERS},
        "split": split,
        "run": run.name,
        "precision": precision,
    }
    if from_first(artifacts.stale(path, recorded, trained.inputs)) is None and not force:
        progress.say(f"{run.name} is diagnosed already ({folder}); --force does it again.")
    else:
        started = time.monotonic()
        with autocast(precision, state.device):
            table = _measure(trained, users, decoding, progress, config.tokens, searches)
        if state.is_main_process:
            artifacts.write(path, "diagnosis", table, config=recorded, inputs=trained.inputs, started=started)
        state.wait_for_everyone()
    return Diagnosis(folder, _describe(trained, decoding), artifacts.read(path, "diagnosis"))


def teacher_forced(denoiser: Denoiser, users: Tensor, truth: Tensor, codes: int, seed: int) -> TeacherForced:
    """Predict the true next items, with one function evaluation for every set of unmasked digits.

    Args:
        denoiser: the model, conditioned on the users' histories.
        users: user ids, int64 [B]; they and `seed` make the random order.
        truth: semantic IDs of the users' next items, int64 [B, H].
        codes: V.
        seed: seed of the random order.
    """
    B, H = truth.shape
    bits = torch.arange(H, device=truth.device)
    visible = (torch.arange(2**H - 1, device=truth.device)[:, None] >> bits & 1).bool()  # [2^H − 1, H]
    logp = denoiser(torch.where(visible, truth[:, None], codes))  # [B, 2^H − 1, H, V]
    true_codes = truth[:, None, :, None].expand(B, len(visible), H, 1)
    true_logp = logp.gather(3, true_codes).squeeze(3)  # [B, 2^H − 1, H]

    def look_up(partial: Tensor) -> Tensor:
        """Return the same log-probabilities for codes [B, 1, H] that are the true ones where they are not
        masked.
        """
        return logp[torch.arange(B, device=truth.device)[:, None], ((partial != codes).long() << bits).sum(2)]

    known = IndependentDigits(look_up)
    decodings = [Decoding(unmask=order, nfe=T, seed=seed) for order in ORDERS for T in range(1, H + 1)]
    walks = [walk(known, users, truth[:, None], codes, decoding) for decoding in decodings]  # [B, 1] each
    correct = logp.argmax(3) == truth[:, None]  # [B, 2^H − 1, H]
    totals = (correct, true_logp, torch.cat(walks, dim=1).unflatten(1, (-1, H)))
    return TeacherForced(*(total.sum(0, dtype=torch.float64).cpu().numpy() for total in totals))


def _measure(
    trained: TrainedRun,
    users: Split,
    decoding: Decoding,
    progress: Progress,
    tokens: int | None,
    searches: bool = True,
) -> pa.Table:
    processes = Processes.started()
    found = _over_users(trained, users, decoding, progress, tokens, processes)
    rows = [*_of_digits(found), *_of_walks(found)]
    rows += _of_beams(trained, users, decoding, progress, tokens, processes) if searches else []
    schema = pa.schema(list(artifacts.SCHEMAS["diagnosis"].items()))
    return pa.Table.from_pylist([{**row, "users": len(users)} for row in rows], schema)


@torch.inference_mode()
def _over_users(
    trained: TrainedRun,
    users: Split,
    decoding: Decoding,
    progress: Progress,
    tokens: int | None,
    processes: Processes,
) -> TeacherForced:
    """Return the means over all users, gathered over processes."""
    model = _digit_model(trained)
    device = next(model.parameters()).device
    H, sets = model.digits, 2**model.digits - 1
    sids = torch.as_tensor(trained.catalogue.require_sids(), dtype=torch.int64, device=device)
    tokens = tokens or pass_tokens(device)
    batches = batch_rows(
        users,
        model.config.max_items,
        model.tokens_per_item,
        sets,
        tokens,
        once=model.encodes_once or decoding.approximate,
    )
    sums = [np.zeros((sets, H)), np.zeros((sets, H)), np.zeros((len(ORDERS), H))]
    progress.say(f"Predicting the target given every set of its {H} digits ({sets} sets).")
    with progress.task("Predicting digits", total=len(users), unit="users") as task:
        for rows in batches[processes.rank :: processes.count]:
            history = torch.as_tensor(users.padded(rows, model.config.max_items), device=device).long()
            numbers, targets = (
                torch.as_tensor(column[rows], device=device).long()
                for column in (users.users, users.first_target)
            )
            asked = teacher_forced(
                model.denoiser(history, numbers, approximate=decoding.approximate),
                numbers,
                sids[targets],
                model.codes,
                decoding.seed,
            )
            for total, part in zip(sums, (asked.correct, asked.likelihood, asked.walks), strict=True):
                total += part
            task.advance(len(rows) * processes.count)
    return TeacherForced(*(processes.total(total) / len(users) for total in sums))


def _of_digits(means: TeacherForced) -> list[dict[str, Any]]:
    """Return accuracy and nll of each digit by the number of visible others, and the dependence on each other
    digit.
    """
    H = means.correct.shape[1]
    rows: list[dict[str, Any]] = []
    for digit, count in itertools.product(range(H), range(H)):
        sets = [number for number in range(2**H) if number.bit_count() == count and not number >> digit & 1]
        for measure, value in (
            ("accuracy", means.correct[sets, digit].mean()),
            ("nll", -means.likelihood[sets, digit].mean()),
        ):
            rows.append({"measure": measure, "digit": digit, "revealed": count, "value": float(value)})
    for digit, other in itertools.permutations(range(H), 2):
        gain = means.likelihood[1 << other, digit] - means.likelihood[0, digit]
        rows.append({"measure": "dependence", "digit": digit, "revealed": other, "value": float(gain)})
    return rows


def _of_walks(means: TeacherForced) -> list[dict[str, Any]]:
    return [
        {"measure": "joint_loss", "order": order, "evaluations": T, "value": float(walks[-1] - walks[T - 1])}
        for order, walks in zip(ORDERS, means.walks, strict=True)
        for T in range(1, len(walks) + 1)
    ]


def _of_beams(
    trained: TrainedRun,
    users: Split,
    decoding: Decoding,
    progress: Progress,
    tokens: int | None,
    processes: Processes,
) -> list[dict[str, Any]]:
    H = _digit_model(trained).digits
    rows: list[dict[str, Any]] = []
    index = build_index(trained.catalogue.require_sids(), trained.catalogue.codes, [frozenset(range(H))])
    for order, T in itertools.product(ORDERS, range(1, H + 1)):
        progress.say(f"Beam search {len(rows) + 1} of {H * len(ORDERS)}: {order}, T = {T}, unconstrained.")
        free = dataclasses.replace(decoding, unmask=order, nfe=T, constrained=False)
        invalid = recommend(
            trained.model, users, index, free, progress, tokens=tokens, processes=processes
        ).invalid
        share = float(invalid.sum() / (len(users) * decoding.beams))
        rows.append({"measure": "invalid_rate", "order": order, "evaluations": T, "value": share})
    return rows


def _check_settings(config: EvalConfig) -> None:
    """Check that every setting has an effect here.

    Raises:
        UserError: one has not.
    """
    if config.horizon is not None:
        raise has_no_effect(["--horizon"], "--diagnose", "which looks one item ahead")
    if config.users is not None:
        raise has_no_effect(["--users"], "--diagnose", "which measures all users")
    settings = [name for name in config.decoding.changed if name not in MATTERS]
    if settings:
        allowed = " and ".join(options(list(MATTERS)))
        raise has_no_effect(options(settings), "--diagnose", f"which takes {allowed} alone")


def _check_run(trained: TrainedRun, decoding: Decoding) -> None:
    """Check that the run can be diagnosed.

    Raises:
        UserError: it cannot.
    """
    model = trained.model
    if not isinstance(model, DigitModel) or not {*ORDERS} <= {*model.orders}:
        raise UserError(
            f"--diagnose unmasks digits in any order, which --model {model.config.name} cannot. Name "
            "another run."
        )
    if trained.horizon > 1:
        raise UserError(
            f"--diagnose looks one item ahead, and the run was trained with --horizon {trained.horizon}. "
            "Name another run."
        )
    if model.uses_item_softmax:
        raise UserError(
            "--diagnose measures what is lost where masked digits are independent; a run with --likelihood "
            "item has one distribution over them. Name another run."
        )
    if decoding.approximate and unsupported(decoding, model):
        raise has_no_effect(
            ["--approximate"], f"this run of --model {model.config.name}", REASONS["approximate"]
        )


def _digit_model(trained: TrainedRun) -> DigitModel:
    assert isinstance(trained.model, DigitModel), "checked by _check_run"
    return trained.model


def _name(decoding: Decoding, split: str) -> str:
    """Return the name of the folder, e.g. "validation-diagnosis-k20"."""
    parts = ["validation"] * (split == "validation") + ["diagnosis", f"k{decoding.beams}"]
    return "-".join(
        parts + [f"seed{decoding.seed}"] * bool(decoding.seed) + ["approximate"] * decoding.approximate
    )


def _describe(trained: TrainedRun, decoding: Decoding) -> str:
    """Return data set, semantic IDs and settings, in a line."""
    how = f"{decoding.beams} beams" + (
        ", histories encoded once (approximate)" if decoding.approximate else ""
    )
    digits = _digit_model(trained).digits
    return f"{trained.dataset.name} · {digits} digits of {trained.catalogue.codes} codes · {how}"
