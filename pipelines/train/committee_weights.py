"""Weights of a committee's members, chosen on the validation users.

The mean log-probability of the targets under the weighted geometric mean of the members' distributions is a
concave function of the weights: a linear function minus the logarithm of a sum of exponentials of linear
functions. The sum of the weights is free here, since it sharpens or flattens the distribution and changes no
ranking; with sum 1 the most likely weights would be those that make the committee as sure as it should be,
which favors members that are less sure, not better ones. The result is divided by its sum.

Shapes: M members, B users, N items of the catalogue."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipelines.data.held_out import HeldOut
from pipelines.data.splits import Split
from pipelines.decode.state import CELLS
from pipelines.evaluate.metrics import bootstrap_interval, gains_by_rank
from pipelines.evaluate.recommend import batch_rows, pass_tokens
from pipelines.models.committee import Committee
from pipelines.models.nn.precision import autocast
from pipelines.progress import Progress

USERS = 2000  # validation users, drawn at random, whose targets decide the weights
DIGITS = 3  # of a weight
K = 10  # of NDCG@K, which decides whether the weights are taken
SEED = 0


@dataclass(frozen=True)
class Choice:
    """Weights that were chosen.

    Attributes:
        weights: of the members, with sum 1.
        reason: which weights they are and why they were taken, in a line.
    """

    weights: tuple[float, ...]
    reason: str


@torch.inference_mode()
def choose_weights(
    committee: Committee, users: Split | HeldOut, warm_items: np.ndarray, progress: Progress
) -> Choice:
    """Choose weights that maximize the mean log-probability of validation targets.

    They are taken if they are better than equal ones by NDCG@10 of all users: if the 95 % interval of the
    difference, over users, is above 0.

    Args:
        committee: in evaluation mode, on its device.
        users: histories and targets of the validation.
        warm_items: items that the members were trained on, ascending; targets among the others say nothing
            of the weights.
        progress: receives progress.
    """
    equal = (1 / len(committee.models),) * len(committee.models)
    sample = next(iter(users.sample(min(USERS, len(users)), SEED).chunks()))
    sample = sample.rows(np.flatnonzero(np.isin(sample.targets[:, 0], warm_items)))
    weights = _most_likely(committee, sample, progress) if len(sample) else equal
    typed = ",".join(f"{weight:g}" for weight in weights)
    if weights == equal:
        return Choice(equal, "equal, which are the most likely on validation")
    gains = _gains(committee, users, (equal, weights), progress)  # [2, B]
    values, counts = np.unique(gains[1] - gains[0], return_counts=True)
    [[low], [high]] = bootstrap_interval(counts, values[:, None], np.random.default_rng(SEED))
    gain = (
        f"NDCG@{K} {100 * gains[1].mean():.2f} in place of {100 * gains[0].mean():.2f} on validation, "
        f"a difference of {100 * (gains[1] - gains[0]).mean():+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]"
    )
    if low > 0:
        return Choice(weights, f"validation: {gain}")
    return Choice(equal, f"equal: {typed} has no better {gain}")


def _most_likely(committee: Committee, users: Split, progress: Progress) -> tuple[float, ...]:
    """Return the weights that maximize the mean log-probability of the targets, divided by their sum and
    rounded.
    """
    from scipy.optimize import minimize  # no training or evaluation needs it

    M = len(committee.models)
    with progress.task("Weights of the members", unit="passes") as task:

        def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
            total, gradient = 0.0, torch.zeros(M, dtype=torch.float64)
            for logits, targets in _batches(committee, users):
                own = logits.gather(2, targets[None, :, None].expand(M, -1, -1)).squeeze(2)  # [M, B]
                mixed = torch.as_tensor(weights, dtype=torch.float32, device=logits.device)
                logp = torch.tensordot(mixed, logits, dims=1).log_softmax(1)  # [B, N]
                total -= float(logp.gather(1, targets[:, None]).sum())
                expected = torch.stack([(logp.exp() * member).sum() for member in logits])
                gradient += (expected - own.sum(1)).double().cpu()
            task.advance(1)
            return total / len(users), gradient.numpy() / len(users)

        found = minimize(
            loss,
            np.full(M, 1 / M),
            jac=True,
            method="L-BFGS-B",
            bounds=[(0.0, None)] * M,
            options={"ftol": 1e-5, "maxfun": 20},
        ).x
    if not found.any():
        return (1 / M,) * M
    rounded = np.round(found / found.sum(), DIGITS)
    return tuple((rounded / rounded.sum()).tolist())


def _gains(
    committee: Committee,
    users: Split | HeldOut,
    candidates: Sequence[Sequence[float]],
    progress: Progress,
) -> np.ndarray:
    """Return the NDCG@K of each user with each of some weights, float64 [candidates, users]."""
    by_rank, found = gains_by_rank(K)["ndcg", K], []
    with progress.task("Validation", total=len(users), unit="users") as task:
        for split in users.chunks():
            for logits, targets in _batches(committee, split):
                items = torch.arange(committee.items, device=logits.device)
                ranks = []
                for weights in candidates:
                    mixed = torch.tensordot(torch.tensor(weights, device=logits.device), logits, dims=1)
                    own = mixed.gather(1, targets[:, None])  # [B, 1]
                    first = (mixed > own) | ((mixed == own) & (items < targets[:, None]))
                    ranks.append(first.sum(1) + 1)
                place = torch.stack(ranks)  # [candidates, B]
                found.append(by_rank[torch.where(place > K, 0, place).cpu().numpy()])
                task.advance(len(targets))
    return np.concatenate(found, axis=1)


def _batches(committee: Committee, users: Split) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the members' logits, float32 [M, B, N], and the targets, int64 [B], of some users at a time."""
    device = next(committee.parameters()).device
    window, cells = committee.config.max_items, committee.items * len(committee.models)
    rows_of = batch_rows(
        *(users, window, committee.tokens_per_item, 1, pass_tokens(device)),
        once=True,
        users=max(1, CELLS // cells),
    )
    with autocast("auto", device):
        for rows in rows_of:
            history = torch.as_tensor(users.padded(rows, window), device=device).long()
            numbers = torch.as_tensor(users.users[rows], device=device).long()
            scores = committee.member_scores(history, numbers)
            targets = torch.as_tensor(users.targets[rows, 0], device=device).long()
            yield torch.stack([member.of(slice(None)) for member in scores]), targets
