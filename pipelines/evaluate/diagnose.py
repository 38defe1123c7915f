"""Whether masked digits that are decided independently lose what ties them together (paper, section 3.2: it assumes that nothing does).

Shapes: B users, H digits, V codes. A set of revealed digits is a number whose bit h stands for digit h; all 2^H − 1
that leave a digit masked are asked for, so that nothing is sampled and every walk to the target is a look-up.
"""

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
from pipelines.data.splits import Split, histories
from pipelines.decode.config import ORDERS, Decoding
from pipelines.decode.exhaustive import walk
from pipelines.decode.index import PartialIndex
from pipelines.errors import UserError
from pipelines.evaluate.recommend import batch_rows, pass_tokens, recommend, say_truncated
from pipelines.evaluate.run import refuse_approximate
from pipelines.models.loading import Trained, load_run
from pipelines.models.nn.precision import autocast
from pipelines.models.sid.item_softmax import Denoiser
from pipelines.processes import Processes, process_state
from pipelines.progress import Progress
from pipelines.workspace import Run, Workspace

MATTERS = ("beams", "seed", "approximate")  # of a decoding; all orders and numbers of evaluations are tried


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """Where a diagnosis lies and what it found.

    Attributes:
        folder: holds diagnosis.parquet.
        description: what was measured, in a line.
        table: measure, order, evaluations, digit, revealed, value, users; an artifact of kind "diagnosis". Digits
            count from 0. `revealed` is how many other digits were (accuracy, nll) or which one was (dependence).
    """

    folder: Path
    description: str
    table: pa.Table


@dataclass(frozen=True, eq=False)
class TeacherForced:
    """What the model says of the users' true next items; sums over users.

    Attributes:
        correct: float64 [2^H − 1, H], by set of revealed digits: the true code of a masked digit is the likeliest.
        likelihood: float64 [2^H − 1, H], by set of revealed digits: log-probability of the true code of a masked digit.
        walks: float64 [orders, H], by order and T = 1 … H: log-probability of the item.
    """

    correct: np.ndarray
    likelihood: np.ndarray
    walks: np.ndarray


def diagnose_run(
    workspace: Workspace,
    run: Run,
    decoding: Decoding,
    progress: Progress,
    *,
    split: str = "test",
    tokens: int | None = None,
    precision: str = "auto",
    force: bool = False,
    searches: bool = True,
) -> Diagnosis:
    """Measure for every user of a split how the digits of an item depend on each other, and what ignoring it costs.

    - accuracy, nll: share of true codes that are the likeliest, and mean −log p in nats, of each digit given r others of
      the target; a mean over all sets of r others.
    - dependence: mean log p(s_j | s_i, history) − log p(s_j | history) of the target, in nats.
    - joint_loss: mean log p of the target revealed one digit an evaluation, less that in T evaluations, in nats. Greedy
      chooses anew at every evaluation, so with fewer it may take the digits in another order.
    - invalid_rate: share of unconstrained beams that are no item.

    Args:
        decoding: beams, seed and approximate matter.
        split: "test" or "validation".
        tokens: most tokens in one forward pass, see `recommend`.
        precision: of matrix products, see `models.precision`.
        force: measure again even where the diagnosis is up to date.
        searches: measure the invalid rate too, by a beam search for each order and number of evaluations.

    Raises:
        UserError: the run or its data cannot be used, or the decoding asks for what plays no part here.
    """
    _refuse_options(decoding)
    state = process_state()
    trained = load_run(workspace, run, state.device)
    _refuse_run(trained, decoding)
    users = histories(load_sequences(trained.dataset.sequences, trained.catalogue.items), split)
    say_truncated(users, trained.model.config.max_items, progress)
    folder = run.evaluation(_name(decoding, split) + "-digits" * (not searches))
    path = folder / "diagnosis.parquet"
    config = {
        **{name: getattr(decoding, name) for name in MATTERS},
        "split": split,
        "run": run.name,
        "precision": precision,
    }
    if artifacts.stale(path, config, trained.inputs) is None and not force:
        progress.say(f"{run.name} is diagnosed already ({folder}); --force does it again.")
    else:
        started = time.monotonic()
        with autocast(precision, state.device):
            table = _measure(trained, users, decoding, progress, tokens, searches)
        if state.is_main_process:
            artifacts.write(path, "diagnosis", table, config=config, inputs=trained.inputs, started=started)
        state.wait_for_everyone()
    return Diagnosis(folder, _describe(trained, decoding), artifacts.read(path, "diagnosis"))


def teacher_forced(denoiser: Denoiser, users: Tensor, truth: Tensor, codes: int, seed: int) -> TeacherForced:
    """Ask once for every set of revealed digits, and walk to the item by every order in every number of evaluations.

    Args:
        log_probabilities: the model, given the users' histories.
        users: int64 [B] user numbers; they and `seed` make the random order.
        truth: int64 [B, H], the semantic IDs of the users' next items.
        codes: V.
    """
    B, H = truth.shape
    bits = torch.arange(H, device=truth.device)
    shown = (torch.arange(2**H - 1, device=truth.device)[:, None] >> bits & 1).bool()  # [2^H − 1, H]
    logp = denoiser(torch.where(shown, truth[:, None], codes))  # [B, 2^H − 1, H, V]
    own = logp.gather(3, truth[:, None, :, None].expand(B, len(shown), H, 1)).squeeze(3)  # [B, 2^H − 1, H]

    def known(partial: Tensor) -> Tensor:
        """The same answers, for codes [B, 1, H] that are the truth's where they are not masked."""
        return logp[torch.arange(B, device=truth.device)[:, None], ((partial != codes).long() << bits).sum(2)]

    tries = [Decoding(unmask=order, nfe=T, seed=seed) for order in ORDERS for T in range(1, H + 1)]
    walks = torch.cat(
        [walk(known, users, truth[:, None], codes, decoding) for decoding in tries], dim=1
    )  # [B, orders · H]
    correct = logp.argmax(3) == truth[:, None]  # [B, 2^H − 1, H]
    sums = (
        total.sum(0, dtype=torch.float64).cpu().numpy()
        for total in (correct, own, walks.unflatten(1, (-1, H)))
    )
    return TeacherForced(*sums)


def _measure(
    trained: Trained,
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
    trained: Trained,
    users: Split,
    decoding: Decoding,
    progress: Progress,
    tokens: int | None,
    processes: Processes,
) -> TeacherForced:
    """Means over all users, whoever of the processes asked about them."""
    model, device = trained.model, next(trained.model.parameters()).device
    H, sets = model.digits, 2**model.digits - 1
    sids = torch.as_tensor(trained.catalogue.sids, device=device)
    tokens = tokens or pass_tokens(device)
    batches = batch_rows(
        users,
        model.config.max_items,
        model.tokens_per_item,
        sets,
        tokens,
        once=model.prefix or decoding.approximate,
    )
    sums = [np.zeros((sets, H)), np.zeros((sets, H)), np.zeros((len(ORDERS), H))]
    progress.say(f"Revealing every set of the target's {H} digits ({sets} of them) to the model.")
    with progress.task("Revealing digits", total=len(users), unit="users") as task:
        for rows in batches[processes.rank :: processes.count]:
            history = torch.as_tensor(users.padded(rows, model.config.max_items), device=device).long()
            numbers, targets = (
                torch.as_tensor(column[rows], device=device).long()
                for column in (users.users, users.first_target)
            )
            asked = teacher_forced(
                model.denoiser(history, decoding.approximate),
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
    """Accuracy and nll of each digit by the number of others revealed, and the gain from each other one alone."""
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
    trained: Trained,
    users: Split,
    decoding: Decoding,
    progress: Progress,
    tokens: int | None,
    processes: Processes,
) -> list[dict[str, Any]]:
    H, rows = trained.model.digits, []
    index = PartialIndex(trained.catalogue.sids, trained.catalogue.codes, [frozenset(range(H))])
    for order, T in itertools.product(ORDERS, range(1, H + 1)):
        progress.say(f"Beam search {len(rows) + 1} of {H * len(ORDERS)}: {order}, T = {T}, unconstrained.")
        free = dataclasses.replace(decoding, unmask=order, nfe=T, constrained=False)
        invalid = recommend(
            trained.model, users, index, free, progress, tokens=tokens, processes=processes
        ).invalid
        share = float(invalid.sum() / (len(users) * decoding.beams))
        rows.append({"measure": "invalid_rate", "order": order, "evaluations": T, "value": share})
    return rows


def _refuse_options(decoding: Decoding) -> None:
    """Raise where an option is set that changes nothing here."""
    for name, value in dataclasses.asdict(decoding).items():
        if name not in MATTERS and value != getattr(Decoding(), name):
            option = ("--no-" if value is False else "--") + name.replace("_", "-")
            taken = ", ".join(f"--{other}" for other in MATTERS)
            raise UserError(
                f"{option} means nothing to --diagnose, of whose decoding only {taken} can be set. Leave it out."
            )


def _refuse_run(trained: Trained, decoding: Decoding) -> None:
    """Raise where the run cannot be measured so."""
    if not {*ORDERS} <= {*getattr(trained.model, "orders", ())}:
        raise UserError(
            f"--diagnose reveals digits in any order, which --model {trained.model.config.name} cannot. Name another run."
        )
    if trained.horizon > 1:
        raise UserError(
            f"--diagnose looks one item ahead, and the run was trained with --horizon {trained.horizon}. Take another run."
        )
    if trained.model.uses_item_softmax:
        raise UserError(
            "--diagnose shows what masked digits lose apart; a run with --likelihood item decides them together. Take another."
        )
    refuse_approximate(trained, decoding)


def _name(decoding: Decoding, split: str) -> str:
    """A folder's name beside those of decodings, e.g. "validation-diagnosis-k20"."""
    parts = ["validation"] * (split == "validation") + ["diagnosis", f"k{decoding.beams}"]
    return "-".join(
        parts + [f"seed{decoding.seed}"] * bool(decoding.seed) + ["approximate"] * decoding.approximate
    )


def _describe(trained: Trained, decoding: Decoding) -> str:
    """Data set, semantic IDs, and what was set."""
    how = f"{decoding.beams} beams" + (
        ", histories encoded once (approximate)" if decoding.approximate else ""
    )
    return f"{trained.dataset.name} · {trained.model.digits} digits of {trained.model.codes} codes · {how}"
