"""An evaluation that reveals several digits of a model with joint digits: combinations from the items that have them.

Shapes: B users, K beams, k items that come next, H digits an item, S = k·H, R digits an evaluation reveals, C combinations, Q pairs of a
beam's item and an item that agrees with it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipelines.decode.config import Decoding
from pipelines.decode.index import PartialIndex
from pipelines.decode.partial import Partial
from pipelines.decode.top import best_candidates
from pipelines.models.joint import Joint


def reveal_jointly(expected: Joint, digits: Tensor, beams: Partial, index: PartialIndex, decoding: Decoding) -> Partial:
    """`reveal` for joint digits: a combination's probability is the sum over the items that have it, which are all looked at."""
    (B, K, S), H = beams.codes.shape, index.digits
    chosen = torch.zeros_like(beams.codes, dtype=torch.bool).scatter(2, digits, True).reshape(-1, H)  # [B·K·k, H]
    before = beams.codes.reshape(-1, H)
    row, item, share = expected.agreeing(beams.codes)
    number = index.number(torch.where(chosen[row], index.sids[item], before[row]))  # the partial SID that an item leads to
    key = row * len(index.partials) + torch.searchsorted(index.partials, number)
    key, group = key.unique(return_inverse=True)  # sorted by row, then by number
    value = share.new_zeros(len(key)).index_add_(0, group, share).log()
    row, number = key // len(index.partials), index.partials[key % len(index.partials)]
    counts = torch.bincount(row, minlength=len(before))
    column = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
    size = (B, K, S // H, int(counts.max()))  # an item's combinations, padded
    values = value.new_full(size, -torch.inf)
    numbers = number.new_zeros(size)
    values.view(len(before), -1)[row, column], numbers.view(len(before), -1)[row, column] = value, number
    codes, scores, origin = _combined(values, numbers, beams.scores, index, decoding.beams)
    gains = _chain(expected, codes, digits, beams, origin) if decoding.remask else beams.gains[:, :1].expand_as(codes)
    return Partial(codes, gains, scores)


def _combined(values: Tensor, numbers: Tensor, scores: Tensor, index: PartialIndex, beams: int) -> tuple[Tensor, Tensor, Tensor]:
    """The K best choices of a partial SID for each of k items that come at the same time, which are independent of each other.

    Args:
        values: log-probabilities [B, K', k, C], −inf where there is none.
        numbers: the partial SIDs, int64 [B, K', k, C].
        scores: of the beams that they belong to, [B, K'].

    Returns:
        Codes [B, K, S], scores [B, K], and which beam each comes from, [B, K].
    """
    B, _, k, C = values.shape
    origin, taken = torch.arange(scores.shape[1], device=scores.device).expand(B, -1), numbers.new_zeros((B, scores.shape[1], 0))
    for part in range(k):
        rows = origin[..., None].expand(-1, -1, C)
        gained = scores[..., None] + values[:, :, part].gather(1, rows)  # [B, K', C]
        bounds = gained
        for later in range(part + 1, k):
            bounds = bounds + values[:, :, later].amax(-1).gather(1, origin)[..., None]
        offered = numbers[:, :, part].gather(1, rows).flatten(1)

        def number(users: Tensor, places: Tensor, offered: Tensor = offered) -> Tensor:
            return offered[users].gather(1, places)

        picked, alive = best_candidates(bounds.flatten(1), number, index, beams, constrained=False)
        parent = picked // C
        scores = gained.flatten(1).gather(1, picked).masked_fill(~alive, -torch.inf)
        taken = torch.cat((taken.gather(1, parent[..., None].expand(-1, -1, part)), offered.gather(1, picked)[..., None]), dim=2)
        origin = origin.gather(1, parent)
    codes = taken[..., None] // index.place % (index.codes + 1)  # [B, K, k, H]
    return codes.flatten(2), scores, origin


def _chain(expected: Joint, codes: Tensor, digits: Tensor, beams: Partial, origin: Tensor) -> Tensor:
    """The gains [B, K, S] of joint digits revealed together: of each what it was expected with, given those before it."""
    rows = origin[..., None].expand_as(codes)
    partial, gains = beams.codes.gather(1, rows), beams.gains.gather(1, rows)
    for step in range(digits.shape[2]):
        digit = digits[:, :, step].gather(1, origin)[..., None]  # [B, K, 1]
        code = codes.gather(2, digit)
        logp = expected.again(partial, origin).gather(2, digit[..., None].expand(-1, -1, -1, expected.members.codes))
        gains = gains.scatter(2, digit, logp.squeeze(2).gather(2, code))
        partial = partial.scatter(2, digit, code)
    return gains
