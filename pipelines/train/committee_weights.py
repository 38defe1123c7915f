"""Weights of a committee's members, chosen on the validation users.

Half of the users choose among a grid of weights, the other half tests the choice against equal weights. The
measure is NDCG@10, not the probability of the targets: runs that were trained longer are too sure of
themselves, which costs probability where the target is far down, and no place where it is near the top.

Shapes: M members, B users, N items of the catalogue."""

from __future__ import annotations

import itertools
import math
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

TRIED = 60  # combinations of weights, at most about
FINEST = 10  # a weight is a multiple of 1 / FINEST, or of a larger fraction where there are many members
K = 10  # of NDCG@K
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
def choose_weights(committee: Committee, users: Split | HeldOut, progress: Progress) -> Choice:
    """Choose the weights of `grid` that are best by NDCG@10 for the users of even numbers.

    They are taken if they are better than equal ones for the users of odd numbers: if the 95 % interval of
    the difference, over users, is above 0.

    Args:
        committee: in evaluation mode, on its device.
        users: histories and targets of the validation.
        progress: receives progress.
    """
    tried = grid(len(committee.models))
    equal = tried[0]
    by_weights = _gains(committee, users, 0, tried, progress).mean(1)
    best = tried[int(by_weights.argmax())]
    if best == equal:
        return Choice(equal, f"equal, the best of {len(tried)} by NDCG@{K} on half of the validation users")
    one, other = _gains(committee, users, 1, (equal, best), progress)  # [users] each
    values, counts = np.unique(other - one, return_counts=True)
    [[low], [high]] = bootstrap_interval(counts, values[:, None], np.random.default_rng(SEED))
    measured = (
        f"NDCG@{K} {100 * other.mean():.2f} in place of {100 * one.mean():.2f} on the other half of the "
        f"validation users, a difference of {100 * values @ counts / counts.sum():+.2f} [{100 * low:+.2f}, "
        f"{100 * high:+.2f}]"
    )
    if low > 0:
        return Choice(best, f"validation: {measured}")
    typed = ",".join(f"{weight:g}" for weight in best)
    return Choice(equal, f"equal: {typed} is no better by more than its interval, {measured}")


def grid(members: int) -> list[tuple[float, ...]]:
    """Return the weights that are tried: equal ones first, then all multiples of a fraction with sum 1.

    Args:
        members: M.
    """
    parts = FINEST  # of which a weight is a number
    while parts > 1 and math.comb(parts + members - 1, members - 1) > TRIED:
        parts -= 1
    found = [(1 / members,) * members]
    for cuts in itertools.combinations(range(parts + members - 1), members - 1):  # stars and bars
        ends = (-1, *cuts, parts + members - 1)
        numbers = [after - before - 1 for before, after in itertools.pairwise(ends)]
        found.append(tuple(number / parts for number in numbers))
    return list(dict.fromkeys(found))


def _gains(
    committee: Committee,
    users: Split | HeldOut,
    parity: int,
    tried: Sequence[Sequence[float]],
    progress: Progress,
) -> np.ndarray:
    """Return the NDCG@K of the users of one parity with each of some weights, float64 [tried, users]."""
    by_rank, found = gains_by_rank(K)["ndcg", K], [np.zeros((len(tried), 0))]
    with progress.task("Weights of the members", total=len(users) / 2, unit="users") as task:
        for chunk in users.chunks():
            split = chunk.rows(np.flatnonzero(chunk.users % 2 == parity))
            for logits, targets in _batches(committee, split) if len(split) else ():
                ranks = torch.stack([_ranks(logits, weights, targets) for weights in tried])
                found.append(by_rank[torch.where(ranks > K, 0, ranks).cpu().numpy()])
                task.advance(len(targets))
    return np.concatenate(found, axis=1)


def _ranks(logits: Tensor, weights: Sequence[float], targets: Tensor) -> Tensor:
    """Return the ranks of targets [B] by the weighted mean of logits [M, B, N]: int64 [B], 1 for the best; of
    equal scores the lower item comes first.
    """
    mixed = torch.tensordot(torch.tensor(weights, device=logits.device), logits, dims=1)  # [B, N]
    own, items = mixed.gather(1, targets[:, None]), torch.arange(mixed.shape[1], device=logits.device)
    return ((mixed > own) | ((mixed == own) & (items < targets[:, None]))).sum(1) + 1


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
