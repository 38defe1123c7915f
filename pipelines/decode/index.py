"""Which partial semantic IDs belong to some item: one sorted tensor of numbers, no trie."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


class PartialIndex:
    """All distinct partial SIDs of a catalogue, for every subset of revealed digits.

    A partial SID is a number in base V + 1 whose digit is V where the SID is masked. Membership is one
    `torch.searchsorted`; with every digit revealed the same number looks up the item.
    """

    def __init__(self, sids: np.ndarray, codes: int) -> None:
        """
        Args:
            sids: [N, H], distinct rows, codes from 0 to V − 1.
            codes: V.

        Raises:
            ValueError: (V + 1)^H does not fit an int64.
        """
        N, H = sids.shape
        if (codes + 1) ** H >= 2**63:
            raise ValueError(f"{H} digits of {codes} codes do not fit a 64-bit number")
        self.codes, self.digits = codes, H
        self.place = torch.tensor([(codes + 1) ** (H - 1 - h) for h in range(H)], dtype=torch.int64)
        self.sids = torch.as_tensor(sids, dtype=torch.int64)  # [N, H]
        numbers = (self.sids * self.place).sum(1)
        self.numbers, self.items = numbers.sort()
        lift = (codes - self.sids) * self.place  # added to a number, masks that digit
        self.partials = _all_subsets(numbers, lift)

    def to(self, device: torch.device) -> PartialIndex:
        """Move the tensors; returns self."""
        for name in ("place", "sids", "numbers", "items", "partials"):
            setattr(self, name, getattr(self, name).to(device))
        return self

    def number(self, codes: Tensor) -> Tensor:
        """[..., H] codes (V where masked) → int64 [...]."""
        return (codes * self.place).sum(-1)

    def valid(self, numbers: Tensor) -> Tensor:
        """Whether some item is consistent with each partial SID; any shape → bool of that shape."""
        return _contains(self.partials, numbers)

    def lookup(self, numbers: Tensor) -> Tensor:
        """Items of fully revealed SIDs, −1 where no item has that SID; any shape → int64 of that shape."""
        position = torch.searchsorted(self.numbers, numbers).clamp_(max=len(self.numbers) - 1)
        return torch.where(self.numbers[position] == numbers, self.items[position], -1)


def _all_subsets(numbers: Tensor, lift: Tensor) -> Tensor:
    """Sorted distinct partials of [N] numbers over all 2^H subsets of masked digits."""
    N, H = lift.shape
    subsets = torch.arange(2**H)[:, None] >> torch.arange(H) & 1  # [2^H, H]
    return torch.cat([(numbers + lift @ subset).unique() for subset in subsets]).sort().values


def _contains(members: Tensor, values: Tensor) -> Tensor:
    position = torch.searchsorted(members, values).clamp_(max=len(members) - 1)
    return members[position] == values
