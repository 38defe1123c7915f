"""Index of the partial semantic IDs that belong to some item: one sorted tensor of numbers, no trie."""

from __future__ import annotations

import time
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from pipelines.data.candidates import CandidateIndex, place_values
from pipelines.errors import UserError

MAX_DIGITS = 12  # largest number of digits of an item that may be unmasked in any order


class PartialIndex:
    """The distinct partial SIDs of a catalogue, for all subsets of unmasked digits or for those that an order
    can reach.

    A partial SID is a number in base V + 1, whose digit is V where the SID is masked. Membership is one
    `torch.searchsorted`. With every digit unmasked, the same number looks up the item. A subset of r unmasked
    digits has at most min(N, V^r) distinct partial SIDs, so that a catalogue of N items takes well below
    8·N·2^H bytes.

    Attributes:
        codes: V.
        digits: H.
        place_values: place value of each digit in the number of a partial SID, int64 [H].
        sids: semantic IDs, int64 [N, H].
        numbers: sorted numbers of the semantic IDs, int64 [N].
        items: item of each of `numbers`, int64 [N].
        partials: sorted numbers of the distinct partial SIDs, int64 [partials].
        used_codes: codes that some item has at each digit, bool [H, V].
        seconds: time that building the index took.
    """

    def __init__(self, sids: np.ndarray, codes: int, subsets: list[frozenset[int]] | None = None) -> None:
        """
        Args:
            sids: distinct semantic IDs, [N, H], codes from 0 to V − 1.
            codes: V.
            subsets: sets of unmasked digits that the search can reach, the full set among them
                (`Decoding.reachable`); None for all 2^H sets.

        Raises:
            UserError: (V + 1)^H exceeds the range of int64, or there are too many subsets.
        """
        started = time.monotonic()
        self.codes = codes
        self.digits = sids.shape[1]
        self.place_values = place_values(self.digits, codes)
        self.sids = torch.as_tensor(sids, dtype=torch.int64)  # [N, H]
        self.numbers, self.items = (self.sids * self.place_values).sum(1).sort()
        self.partials = self._partials(every_subset(self.digits) if subsets is None else subsets)
        self.used_codes = torch.zeros((self.digits, codes), dtype=torch.bool)  # [H, V]
        self.used_codes[torch.arange(self.digits), self.sids] = True
        self._combinations: dict[int, tuple[Tensor, Tensor]] = {}
        self.seconds = time.monotonic() - started

    @property
    def bytes(self) -> int:
        """Size of the tensors in bytes."""
        return sum(tensor.nbytes for tensor in (self.sids, self.numbers, self.items, self.partials))

    def to(self, device: torch.device) -> PartialIndex:
        """Move the tensors to a device, and return this index."""
        if device != self.sids.device:
            self._combinations.clear()
            self.__dict__.pop("candidates", None)
        for name in ("place_values", "sids", "numbers", "items", "partials", "used_codes"):
            setattr(self, name, getattr(self, name).to(device))
        return self

    def number(self, codes: Tensor) -> Tensor:
        """Return the numbers of partial SIDs: [..., H] codes, V where masked → int64 [...]."""
        return (codes * self.place_values).sum(-1)

    def valid(self, numbers: Tensor) -> Tensor:
        """Return true for each partial SID that some item agrees with: any shape → bool of that shape."""
        position = torch.searchsorted(self.partials, numbers).clamp_(max=len(self.partials) - 1)
        return self.partials[position] == numbers

    def lookup(self, numbers: Tensor) -> Tensor:
        """Return the items of fully unmasked SIDs, −1 where no item has the SID: any shape → int64 of that
        shape.
        """
        position = torch.searchsorted(self.numbers, numbers).clamp_(max=len(self.numbers) - 1)
        return torch.where(self.numbers[position] == numbers, self.items[position], -1)

    @cached_property
    def candidates(self) -> CandidateIndex:
        """Candidate index of the catalogue."""
        return CandidateIndex(self.sids, self.codes)

    def combinations(self, digits: int) -> tuple[Tensor, Tensor]:
        """Return the combinations of codes that items have at a set of digits.

        Args:
            digits: the set; bit h stands for digit h.

        Returns:
            int64 [N], the combination of each item; int64 [G], what each combination adds to the number of a
            partial SID in which these digits are masked.
        """
        if digits not in self._combinations:
            chosen = torch.tensor([digits >> h & 1 for h in range(self.digits)], device=self.sids.device)
            change = (chosen * self.place_values * (self.sids - self.codes)).sum(1)  # [N]
            distinct, group = change.unique(return_inverse=True)
            self._combinations[digits] = group, distinct
        return self._combinations[digits]

    def tie_break(self, numbers: Tensor) -> Tensor:
        """Return keys that order partial SIDs with equal scores, the lower first: the item's number, or the
        number of the partial SID where it is no item. Any shape → int64 of that shape.
        """
        items = self.lookup(numbers)
        return torch.where(items < 0, numbers, items)

    def _partials(self, subsets: list[frozenset[int]]) -> Tensor:
        """Return the sorted distinct partial SIDs of some sets of unmasked digits.

        Those of a set are computed from the larger set with the fewest partial SIDs so far.
        """
        partials: dict[frozenset[int], Tensor] = {frozenset(range(self.digits)): self.numbers}
        for subset in sorted(subsets, key=len, reverse=True):
            if subset in partials:
                continue
            larger = min(
                (other for other in partials if other > subset), key=lambda other: len(partials[other])
            )
            numbers = partials[larger]
            for digit in larger - subset:
                place_value = int(self.place_values[digit])
                code = numbers // place_value % (self.codes + 1)
                numbers = numbers + (self.codes - code) * place_value
            partials[subset] = numbers.unique()
        # Each part is sorted. NumPy's stable sort merges the parts in a fraction of the time of a new sort.
        return torch.as_tensor(np.sort(torch.cat(list(partials.values())).numpy(), kind="stable"))


def every_subset(digits: int) -> list[frozenset[int]]:
    """Return all 2^H sets of digits.

    Args:
        digits: H.

    Raises:
        UserError: H is above 12.
    """
    if digits > MAX_DIGITS:
        raise UserError(
            f"Items of {digits} digits have 2^{digits} sets of digits that any order may unmask; an index "
            f"takes up to 2^{MAX_DIGITS}. Decode by --unmask left-to-right, or make shorter semantic IDs, "
            "e.g. `maskgr tokenize --sids 4`."
        )
    return [frozenset(h for h in range(digits) if number >> h & 1) for number in range(2**digits)]
