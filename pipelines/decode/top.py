"""The best of many candidates, the same in any batch: of equal scores the lower number comes first.

Shapes: B users, C candidates.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pipelines.decode.index import PartialIndex

WIDEN = 4  # candidates tested first, per candidate wanted; more only where too few of them hold


def top(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest scores of each row and their places, both [B, min(k, C)]; of equal scores the first places.

    Args:
        scores: float32 [B, C].
        k: how many.
    """
    k = min(k, scores.shape[1])
    values, places = scores.topk(k, dim=1)  # of scores equal to the last one, any
    edge = values[:, -1:]
    crowded = (((scores >= edge).sum(1) > k) & edge.squeeze(1).isfinite()).nonzero().squeeze(1)
    if len(crowded):
        whole = scores[crowded].sort(dim=1, descending=True, stable=True)
        values[crowded], places[crowded] = whole.values[:, :k], whole.indices[:, :k]
    return ordered(values, places)


def ordered(scores: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Scores [B, C], best first, with their numbers [B, C]; of equal scores the lower number comes first."""
    order = best_first(scores, numbers)
    return scores.gather(1, order), numbers.gather(1, order)


def best_first(scores: Tensor, numbers: Tensor) -> Tensor:
    """The places of scores [B, C], best first, int64 [B, C]; of equal scores that of the lower number comes first."""
    order = numbers.argsort(dim=1, stable=True)
    return order.gather(1, scores.gather(1, order).argsort(dim=1, descending=True, stable=True))


def best_candidates(
    scores: Tensor,
    numbers: Callable[[Tensor, Tensor], Tensor],
    index: PartialIndex,
    keep: int,
    constrained: bool = False,
    merge: bool = False,
) -> tuple[Tensor, Tensor]:
    """The `keep` best candidates of each user, if constrained of those that are part of some item; of equal scores the lower items.

    Only the best few are tested, four times as many again for the users where too few of them hold: the result is that of testing all.

    Args:
        scores: float32 [B, C], −inf where there is no candidate.
        numbers: users [B'] and places [B', C'] among their candidates → partial SIDs [B', C'].
        index: the catalogue.
        keep: how many.
        constrained: leave out what no item has.
        merge: of candidates that are the same partial SID keep the best.

    Returns:
        Places [B, min(keep, C)], best first, and which of them hold a candidate, bool.
    """
    (B, C), device = scores.shape, scores.device
    keep = min(keep, C)
    picked = torch.zeros((B, keep), dtype=torch.int64, device=device)
    alive = torch.zeros((B, keep), dtype=torch.bool, device=device)
    rows, width = torch.arange(B, device=device), min(WIDEN * keep, C)
    while len(rows):
        values, places = scores[rows].topk(width)
        seen = numbers(rows, places)
        if ((values[:, 1:] == values[:, :-1]) & values[:, 1:].isfinite()).any():
            order = best_first(values, index.order(seen))
            places, seen = places.gather(1, order), seen.gather(1, order)
        good = values > -torch.inf
        if constrained:
            good &= index.valid(seen)
        if merge:
            good &= first_of_each(seen)
        front = (
            good.byte().sort(dim=1, descending=True, stable=True).indices[:, :keep]
        )  # those that hold first, still best first
        picked[rows], alive[rows] = places.gather(1, front), good.gather(1, front)
        if width == C:
            break
        last = values.gather(1, front[:, -1:]).squeeze(
            1
        )  # of those kept; a candidate that was not tested may be as good
        more = ((good.sum(1) < keep) | (last == values[:, -1])) & (values[:, -1] > -torch.inf)
        rows, width = rows[more], min(WIDEN * width, C)
    return picked, alive


def first_of_each(numbers: Tensor) -> Tensor:
    """Which of the numbers [B, C] do not stand further left in their row too: bool [B, C]."""
    ranked, position = numbers.sort(dim=1, stable=True)
    new = torch.ones_like(ranked, dtype=torch.bool)
    new[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
    return torch.zeros_like(new).scatter(1, position, new)
