"""An evaluation that reveals several digits at a time, from the combinations of codes that items have.

For joint digits, which are sums over items; and for several items that come at the same time, whose combinations multiply.

Shapes: B users, K beams, k items that come next, H digits an item, S = k·H, R digits an evaluation reveals, V codes, N items,
C combinations, Q pairs of a beam's item and an item of the catalogue that agrees with it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from pipelines.decode.config import Decoding
from pipelines.decode.index import PartialIndex
from pipelines.decode.partial import CELLS, Partial
from pipelines.decode.top import best_candidates
from pipelines.models.sid.item_softmax import DENSE, ItemSoftmax


def reveal_jointly(
    expected: ItemSoftmax, digits: Tensor, beams: Partial, index: PartialIndex, decoding: Decoding
) -> Partial:
    """`reveal` for joint digits: a combination's probability is the sum over the items that have it."""
    row, item, share = expected.agreeing(beams.codes)
    offered = _Combinations(digits, beams, index, row, item, share, _summed)
    found, origin = _best(offered, beams, index, decoding.beams)
    return (
        dataclasses.replace(found, token_log_probs=_chain(expected, found.codes, digits, beams, origin))
        if decoding.remask
        else found
    )


def reveal_items(
    logp: Tensor, digits: Tensor, beams: Partial, index: PartialIndex, decoding: Decoding
) -> Partial:
    """`reveal` for several items at the same time, constrained: what their digits come to for each item that agrees.

    Args:
        logp: [B, K, S, V].
    """
    B, K, S, V = logp.shape
    found = []
    for rows in torch.arange(B, device=logp.device).split(max(1, CELLS // (K * S * len(index.sids)))):
        part, chosen = beams.of(rows), torch.zeros_like(beams.codes[rows]).scatter(2, digits[rows], 1)
        row, item = index.candidates.pairs(part.codes.reshape(-1, index.digits))
        token_log_probs = (logp[rows] * chosen[..., None]).reshape(
            -1, index.digits * V
        )  # [B·K·k, H·V], 0 where nothing is revealed
        value = sum(
            (token_log_probs[row, h * V + index.sids[item, h]] for h in range(index.digits)),
            start=logp.new_zeros(len(row)),
        )
        found.append(
            _best(
                _Combinations(digits[rows], part, index, row, item, value, _any), part, index, decoding.beams
            )[0]
        )
    return Partial(
        *(torch.cat([getattr(part, name) for part in found]) for name in ("codes", "gains", "scores"))
    )


def _best(offered: _Combinations, beams: Partial, index: PartialIndex, K: int) -> tuple[Partial, Tensor]:
    """The K best choices of a combination for each item, and which beam each comes from, [B, K].

    Items that come at the same time are independent of each other. The gains of single digits are left out.
    """
    origin, scores = (
        torch.arange(beams.codes.shape[1], device=beams.codes.device).expand(beams.scores.shape),
        beams.scores,
    )
    taken = beams.codes.new_zeros((*scores.shape, 0))
    parts = offered.values.shape[2]
    for part in range(parts):
        gained = scores[..., None] + offered.of(origin, part)  # [B, K', C]
        promise = gained
        for later in range(part + 1, parts):
            promise = promise + offered.of(origin, later).amax(-1, keepdim=True)

        def numbers(users: Tensor, picked: Tensor, origin: Tensor = origin, part: int = part) -> Tensor:
            return offered.numbers(
                users[:, None], origin[users].gather(1, picked // offered.width), part, picked % offered.width
            )

        picked, alive = best_candidates(promise.flatten(1), numbers, index, K)
        parent = picked // offered.width
        scores = gained.flatten(1).gather(1, picked).masked_fill(~alive, -torch.inf)
        number = numbers(torch.arange(len(picked), device=picked.device), picked)
        taken = torch.cat(
            (taken.gather(1, parent[..., None].expand(-1, -1, part)), number[..., None]), dim=2
        )  # [B, K, part + 1]
        origin = origin.gather(1, parent)
    codes = (taken[..., None] // index.place % (index.codes + 1)).flatten(2)
    return Partial(codes, torch.zeros_like(codes, dtype=scores.dtype), scores), origin


Gather = Callable[
    [Tensor, Tensor, int], Tensor
]  # values [Q], the places that they belong to, how many places → log-probabilities


def _summed(share: Tensor, place: Tensor, size: int) -> Tensor:
    """Logarithms of sums of probabilities, −inf where there is none."""
    mass = share.new_zeros(size).index_add_(0, place, share)
    none = mass == 0  # most of them, and the logarithm of 0 is five times as slow as others on a CPU
    return mass.masked_fill_(none, 1.0).log_().masked_fill_(none, -torch.inf)


def _any(value: Tensor, place: Tensor, size: int) -> Tensor:
    """Log-probabilities that are the same for all that belong to a place, −inf where nothing does."""
    return value.new_full((size,), -torch.inf).scatter_reduce_(0, place, value, "amax")


class _Combinations:
    """The combinations of codes that each of the k items of a beam can take in an evaluation, and their log-probabilities.

    Attributes:
        values: float32 [B, K, k, C], −inf where there is none.
        width: C.
    """

    def __init__(
        self,
        digits: Tensor,
        beams: Partial,
        index: PartialIndex,
        row: Tensor,
        item: Tensor,
        value: Tensor,
        gather: Gather,
    ) -> None:
        """
        Args:
            digits: that are revealed, int64 [B, K, R].
            beams: before.
            row, item: int64 [Q], items that agree with the rows of B·K·k.
            value: of these pairs, [Q].
            gather: what makes a combination's log-probability of the values of its items.
        """
        codes = beams.codes.unflatten(2, (-1, index.digits))  # [B, K, k, H]
        chosen = torch.zeros_like(beams.codes).scatter(2, digits, 1).view(codes.shape)
        self.begun = index.number(codes)  # [B, K, k]
        sets, self.set = (
            (chosen << torch.arange(index.digits, device=digits.device)).sum(3).unique(return_inverse=True)
        )
        groups, changes = zip(*(index.combinations(number) for number in sets.tolist()), strict=True)
        self.changes = pad_sequence(list(changes), batch_first=True)  # [sets, G]
        R, N, G = self.begun.numel(), len(index.sids), self.changes.shape[1]
        group = torch.stack(groups).flatten()[self.set.flatten()[row] * N + item]  # [Q]
        if len(row) * DENSE > R * G:  # most items agree
            values = gather(value, row * G + group, R * G).view(R, G)
            self.group = torch.arange(G, device=row.device).expand(R, G)
        else:
            key, place = (row * G + group).unique(return_inverse=True)
            counts = torch.bincount(key // G, minlength=R)
            column = torch.arange(len(key), device=row.device) - (counts.cumsum(0) - counts)[key // G]
            values, self.group = (
                value.new_full((R, int(counts.max())), -torch.inf),
                key.new_zeros((R, int(counts.max()))),
            )
            values[key // G, column], self.group[key // G, column] = gather(value, place, len(key)), key % G
        self.width = values.shape[1]
        self.values, self.group = (part.view(*codes.shape[:3], -1) for part in (values, self.group))

    def of(self, origin: Tensor, part: int) -> Tensor:
        """The log-probabilities [B, K', C] of what an item can take, for beams that come from the beams `origin` [B, K']."""
        return self.values[:, :, part].gather(1, origin[..., None].expand(-1, -1, self.width))

    def numbers(self, users: Tensor, beams: Tensor, part: int, places: Tensor) -> Tensor:
        """The partial SIDs that items become by the combinations at some places of C; all of the same shape."""
        change = self.changes[self.set[users, beams, part], self.group[users, beams, part, places]]
        return self.begun[users, beams, part] + change


def _chain(expected: ItemSoftmax, codes: Tensor, digits: Tensor, beams: Partial, origin: Tensor) -> Tensor:
    """The gains [B, K, S] of joint digits revealed together: of each what it was expected with, given those before it."""
    rows = origin[..., None].expand_as(codes)
    partial, token_log_probs = beams.codes.gather(1, rows), beams.token_log_probs.gather(1, rows)
    for step in range(digits.shape[2]):
        digit = digits[:, :, step].gather(1, origin)[..., None]  # [B, K, 1]
        code = codes.gather(2, digit)
        logp = expected.again(partial, origin).gather(
            2, digit[..., None].expand(-1, -1, -1, expected.candidates.codes)
        )
        token_log_probs = token_log_probs.scatter(2, digit, logp.squeeze(2).gather(2, code))
        partial = partial.scatter(2, digit, code)
    return token_log_probs
