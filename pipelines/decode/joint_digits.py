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
from pipelines.models.joint import DENSE, Joint


def reveal_jointly(expected: Joint, digits: Tensor, beams: Partial, index: PartialIndex, decoding: Decoding) -> Partial:
    """`reveal` for joint digits: a combination's probability is the sum over the items that have it, which are all looked at."""
    offered = _Combinations(expected, digits, beams, index)
    origin, scores = torch.arange(beams.codes.shape[1], device=digits.device).expand(beams.scores.shape), beams.scores
    taken = digits.new_zeros((*scores.shape, 0))
    for part in range(offered.values.shape[2]):  # items that come at the same time are independent of each other
        gained = scores[..., None] + offered.of(origin, part)  # [B, K', C]
        promise = gained
        for later in range(part + 1, offered.values.shape[2]):
            promise = promise + offered.of(origin, later).amax(-1, keepdim=True)

        def numbers(users: Tensor, picked: Tensor, origin: Tensor = origin, part: int = part) -> Tensor:
            return offered.numbers(users[:, None], origin[users].gather(1, picked // offered.width), part, picked % offered.width)

        picked, alive = best_candidates(promise.flatten(1), numbers, index, decoding.beams)
        parent = picked // offered.width
        scores = gained.flatten(1).gather(1, picked).masked_fill(~alive, -torch.inf)
        number = numbers(torch.arange(len(picked), device=picked.device), picked)
        taken = torch.cat((taken.gather(1, parent[..., None].expand(-1, -1, part)), number[..., None]), dim=2)  # [B, K, part + 1]
        origin = origin.gather(1, parent)
    codes = (taken[..., None] // index.place % (index.codes + 1)).flatten(2)
    gains = _chain(expected, codes, digits, beams, origin) if decoding.remask else torch.zeros_like(codes, dtype=scores.dtype)
    return Partial(codes, gains, scores)


class _Combinations:
    """The combinations of codes that each of the k items of a beam can take in an evaluation, and their log-probabilities.

    Attributes:
        values: float32 [B, K, k, C], −inf where there is none.
        width: C.
    """

    def __init__(self, expected: Joint, digits: Tensor, beams: Partial, index: PartialIndex) -> None:
        codes = beams.codes.unflatten(2, (-1, index.digits))  # [B, K, k, H]
        chosen = torch.zeros_like(beams.codes).scatter(2, digits, 1).view(codes.shape)
        self.begun = index.number(codes)  # [B, K, k]
        sets, self.set = (chosen << torch.arange(index.digits, device=digits.device)).sum(3).unique(return_inverse=True)
        groups, changes = zip(*(index.combinations(number) for number in sets.tolist()), strict=True)
        self.changes = torch.nn.utils.rnn.pad_sequence(list(changes), batch_first=True)  # [sets, G]
        row, item, share = expected.agreeing(beams.codes)
        R, N, G = self.begun.numel(), len(index.sids), self.changes.shape[1]
        group = torch.stack(groups).flatten()[self.set.flatten()[row] * N + item]  # [Q]
        if len(row) * DENSE > R * G:
            mass = share.new_zeros(R * G).index_add_(0, row * G + group, share).view(R, G)
            self.group = torch.arange(G, device=row.device).expand(R, G)
        else:
            key, place = (row * G + group).unique(return_inverse=True)
            counts = torch.bincount(key // G, minlength=R)
            column = torch.arange(len(key), device=row.device) - (counts.cumsum(0) - counts)[key // G]
            mass = share.new_zeros((R, int(counts.max())))
            mass[key // G, column] = share.new_zeros(len(key)).index_add_(0, place, share)
            self.group = torch.zeros_like(mass, dtype=torch.int64)
            self.group[key // G, column] = key % G
        self.width = mass.shape[1]
        none = mass == 0  # most of them, and the logarithm of 0 is five times as slow as others on a CPU
        self.values = mass.masked_fill_(none, 1.0).log_().masked_fill_(none, -torch.inf).view(*codes.shape[:3], -1)
        self.group = self.group.view(self.values.shape)

    def of(self, origin: Tensor, part: int) -> Tensor:
        """The log-probabilities [B, K', C] of what an item can take, for beams that come from the beams `origin` [B, K']."""
        return self.values[:, :, part].gather(1, origin[..., None].expand(-1, -1, self.width))

    def numbers(self, users: Tensor, beams: Tensor, part: int, places: Tensor) -> Tensor:
        """The partial SIDs that items become by the combinations at some places of C; all of the same shape."""
        change = self.changes[self.set[users, beams, part], self.group[users, beams, part, places]]
        return self.begun[users, beams, part] + change


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
