"""Which partial semantic IDs belong to some item: one sorted tensor of numbers, no trie."""

from __future__ import annotations

import time
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from pipelines.data.candidates import CandidateIndex, place_values
from pipelines.errors import UserError

LONGEST = 12  # digits of an item that may be revealed in any order


class PartialIndex:
    """The distinct partial SIDs of a catalogue, for all subsets of revealed digits or for those an order can reach.

    A partial SID is a number in base V + 1 whose digit is V where the SID is masked. Membership is one
    `torch.searchsorted`; with every digit revealed the same number looks up the item. A subset of r revealed
    digits has at most min(N, V^r) distinct partials, so that a catalogue of N items takes well below 8·N·2^H bytes.
    """

    def __init__(self, sids: np.ndarray, codes: int, subsets: list[frozenset[int]] | None = None) -> None:
        """
        Args:
            sids: [N, H], distinct rows, codes from 0 to V − 1.
            codes: V.
            subsets: sets of revealed digits that will be asked for, the full one among them (`Decoding.reachable`);
                None for all 2^H.

        Raises:
            UserError: (V + 1)^H does not fit an int64, or there are too many subsets.
        """
        started = time.monotonic()
        N, H = sids.shape
        self.codes, self.digits = codes, H
        self.place = place_values(H, codes)
        self.sids = torch.as_tensor(sids, dtype=torch.int64)  # [N, H]
        self.numbers, self.items = (self.sids * self.place).sum(1).sort()
        self.partials = self._partials(every_subset(H) if subsets is None else subsets)
        self._combinations: dict[int, tuple[Tensor, Tensor]] = {}
        self.seconds = time.monotonic() - started

    @property
    def bytes(self) -> int:
        """What the tensors take."""
        return sum(tensor.nbytes for tensor in (self.sids, self.numbers, self.items, self.partials))

    def to(self, device: torch.device) -> PartialIndex:
        """Move the tensors; returns self."""
        if device != self.sids.device:
            self._combinations.clear()
            self.__dict__.pop("members", None)
        for name in ("place", "sids", "numbers", "items", "partials"):
            setattr(self, name, getattr(self, name).to(device))
        return self

    def number(self, codes: Tensor) -> Tensor:
        """[..., H] codes (V where masked) → int64 [...]."""
        return (codes * self.place).sum(-1)

    def valid(self, numbers: Tensor) -> Tensor:
        """Whether some item is consistent with each partial SID; any shape → bool of that shape."""
        position = torch.searchsorted(self.partials, numbers).clamp_(max=len(self.partials) - 1)
        return self.partials[position] == numbers

    def lookup(self, numbers: Tensor) -> Tensor:
        """Items of fully revealed SIDs, −1 where no item has that SID; any shape → int64 of that shape."""
        position = torch.searchsorted(self.numbers, numbers).clamp_(max=len(self.numbers) - 1)
        return torch.where(self.numbers[position] == numbers, self.items[position], -1)

    @cached_property
    def candidates(self) -> CandidateIndex:
        """The items that agree with a partial SID."""
        return CandidateIndex(self.sids, self.codes)

    def combinations(self, digits: int) -> tuple[Tensor, Tensor]:
        """The combinations of codes that items have at some digits.

        Args:
            digits: a set; bit h stands for digit h.

        Returns:
            Which combination each item has, int64 [N], and by how much each changes the number of a partial SID that it is added to, [G].
        """
        if digits not in self._combinations:
            chosen = torch.tensor([digits >> h & 1 for h in range(self.digits)], device=self.sids.device)
            change, group = (
                (chosen * self.place * (self.sids - self.codes)).sum(1).unique(return_inverse=True)
            )
            self._combinations[digits] = group, change
        return self._combinations[digits]

    def order(self, numbers: Tensor) -> Tensor:
        """What decides between equal scores, the lower first: an item's number, or that of a partial SID that is none."""
        items = self.lookup(numbers)
        return torch.where(items < 0, numbers, items)

    def _partials(self, subsets: list[frozenset[int]]) -> Tensor:
        """Sorted distinct partials over the subsets, each made from the smallest larger subset that is there already."""
        made: dict[frozenset[int], Tensor] = {frozenset(range(self.digits)): self.numbers}
        for revealed in sorted(subsets, key=len, reverse=True):
            if revealed in made:
                continue
            larger = min((other for other in made if other > revealed), key=lambda other: len(made[other]))
            numbers = made[larger]
            for digit in larger - revealed:
                place = int(self.place[digit])
                numbers = numbers + (self.codes - numbers // place % (self.codes + 1)) * place
            made[revealed] = numbers.unique()
        # Runs that are sorted already: a stable sort of numpy merges them, in a fraction of the time of sorting anew.
        return torch.as_tensor(np.sort(torch.cat(list(made.values())).numpy(), kind="stable"))


def every_subset(digits: int) -> list[frozenset[int]]:
    """All 2^H sets of digits.

    Raises:
        UserError: H is above 12.
    """
    if digits > LONGEST:
        raise UserError(
            f"Items of {digits} digits have 2^{digits} sets of digits that any order may reveal; an index takes up to 2^{LONGEST}. "
            "Decode by --unmask left-to-right, or make shorter semantic IDs, e.g. `maskgr tokenize --sids 4`."
        )
    return [frozenset(h for h in range(digits) if number >> h & 1) for number in range(2**digits)]
