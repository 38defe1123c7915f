"""The best of many candidates, the same in any batch: of equal scores the lower number comes first.

Shapes: B users, C candidates."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pipelines.decode.sid_index import SidIndex, Valid

CHUNK = 32  # scores of a chunk in `top`
FEW = 4  # chunks are used where there are at least so many for each score to return,
MANY = 1 << 17  # and so many scores in all
WIDEN = 4  # candidates tested first, per candidate to keep; each further round tests so many times as many


def top(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest scores of each row and their positions, best first; of equal scores the first
    positions.

    Of many scores only those of k chunks are sorted: the chunks with the largest maxima hold the k largest
    scores, since every chunk that comes before another has a score that comes before all of the other's.

    Args:
        scores: float32 [B, C]; rows or columns may be contiguous.
        k: number of scores to return.

    Returns:
        float32 [B, min(k, C)], scores; int64 [B, min(k, C)], positions.
    """
    B, C = scores.shape
    if FEW * CHUNK * k > C or B * C < MANY:
        return _sorted_top(scores, k)
    whole = C - C % CHUNK
    chunks = scores[:, :whole].unflatten(1, (-1, CHUNK))  # [B, chunks, CHUNK]
    chosen = _sorted_top(_maxima(chunks), k)[1].sort(dim=1).values  # [B, k]
    rows = torch.arange(B, device=scores.device)[:, None]
    candidates = torch.cat((chunks[rows, chosen].flatten(1), scores[:, whole:]), dim=1)
    values, place = _sorted_top(candidates, k)
    within = chosen.gather(1, (place // CHUNK).clamp(max=k - 1)) * CHUNK + place % CHUNK
    return values, torch.where(place < k * CHUNK, within, place - k * CHUNK + whole)


def _maxima(chunks: Tensor) -> Tensor:
    """Return the largest of each chunk [B, chunks, CHUNK], [B, chunks]."""
    if chunks.stride(0) >= chunks.stride(2):
        return chunks.amax(2)
    return chunks.permute(1, 2, 0).amax(1).T  # ten times as fast where the scores of an item lie together


def _sorted_top(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the same as `top`, from all scores."""
    k = min(k, scores.shape[1])
    values, positions = scores.topk(k, dim=1)  # takes any of the scores equal to the last one
    last = values[:, -1:]
    tied = (((scores >= last).sum(1) > k) & last.squeeze(1).isfinite()).nonzero().squeeze(1)
    if len(tied):
        whole = scores[tied].sort(dim=1, descending=True, stable=True)
        values[tied], positions[tied] = whole.values[:, :k], whole.indices[:, :k]
    order = best_first(values, positions)
    return values.gather(1, order), positions.gather(1, order)


def best_first(scores: Tensor, numbers: Tensor) -> Tensor:
    """Return the positions of scores [B, C], best first, int64 [B, C]; of equal scores that of the lower
    number comes first.
    """
    order = numbers.argsort(dim=1, stable=True)
    return order.gather(1, scores.gather(1, order).argsort(dim=1, descending=True, stable=True))


def best_candidates(
    scores: Tensor,
    keys: Callable[[Tensor, Tensor], Tensor],
    index: SidIndex,
    keep: int,
    valid: Valid | None = None,
    merge: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return the best candidates of each user, of those that pass a test; of equal scores the lower items.

    Only the best few are tested first, and four times as many in each further round, for the users with too
    few eligible candidates. The result is that of a test of all candidates.

    Args:
        scores: float32 [B, C], −inf where there is no candidate.
        keys: users [B'] and positions among their candidates [B', C'] → keys of partial SIDs [B', C'].
        index: the catalogue.
        keep: number of candidates to return.
        valid: leaves out partial SIDs that no item has; None for no test.
        merge: if true, keep only the best of the candidates with the same partial SID.

    Returns:
        int64 [B, min(keep, C)], positions, best first; bool [B, min(keep, C)], true where there is a
        candidate.
    """
    (B, C), device = scores.shape, scores.device
    keep = min(keep, C)
    best = torch.zeros((B, keep), dtype=torch.int64, device=device)
    exists = torch.zeros((B, keep), dtype=torch.bool, device=device)
    rows = users = torch.arange(B, device=device)
    width = min(WIDEN * keep, C)
    while len(users):
        values, positions = scores[users].topk(width)
        partials = keys(users, positions)
        if ((values[:, 1:] == values[:, :-1]) & values[:, 1:].isfinite()).any():
            order = best_first(values, index.tie_break(partials))
            positions, partials = positions.gather(1, order), partials[rows[: len(users), None], order]
        eligible = values > -torch.inf
        if valid:
            eligible &= valid(partials, users[:, None])
        if merge:
            eligible &= first_of_each(index.numbers(partials))
        # eligible candidates first, still best first
        front = eligible.byte().sort(dim=1, descending=True, stable=True).indices[:, :keep]
        best[users], exists[users] = positions.gather(1, front), eligible.gather(1, front)
        if width == C:
            break
        last = values.gather(1, front[:, -1:]).squeeze(1)  # a candidate that was not tested may be as good
        more = ((eligible.sum(1) < keep) | (last == values[:, -1])) & (values[:, -1] > -torch.inf)
        users, width = users[more], min(WIDEN * width, C)
    return best, exists


def first_of_each(numbers: Tensor) -> Tensor:
    """Return true for each of the numbers [B, C] that does not occur further left in its row, bool [B, C]."""
    ranked, position = numbers.sort(dim=1, stable=True)
    new = torch.ones_like(ranked, dtype=torch.bool)
    new[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
    return torch.zeros_like(new).scatter(1, position, new)
