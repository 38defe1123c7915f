"""Index of the partial semantic IDs that belong to some item: one sorted tensor of numbers, no trie."""

from __future__ import annotations

import copy
import time
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from pipelines.data.candidates import CandidateIndex, place_values
from pipelines.data.eligible import Eligible, contains
from pipelines.errors import UserError

MAX_DIGITS = 12  # largest number of digits of an item that may be unmasked in any order


class PartialIndex:
    """The distinct partial SIDs of a catalogue, for all subsets of unmasked digits or for those that an order
    can reach.

    A partial SID is a number in base V + 1, whose digit is V where the SID is masked. Membership is one
    `torch.searchsorted`. With every digit unmasked, the same number looks up the item. A subset of r unmasked
    digits has at most min(N, V^r) distinct partial SIDs, so that a catalogue of N items takes well below
    8·N·2^H bytes.

    An index may hold a part of the catalogue, the items that qualify for a filter, in rows of their own. For
    a batch of users it may also leave out items of single users (`excluding`).

    Attributes:
        codes: V.
        digits: H.
        place_values: place value of each digit in the number of a partial SID, int64 [H].
        sids: semantic IDs, int64 [N, H].
        catalogue_sids: semantic IDs of the whole catalogue, int64 [items, H].
        eligible: items of the rows, and the pairs of a user and an item that are left out.
        subsets: sets of unmasked digits that the index holds, bool [subsets, H].
        numbers: sorted numbers of the semantic IDs, int64 [N].
        rows: row of each of `numbers`, int64 [N].
        partials: sorted numbers of the distinct partial SIDs, int64 [partials].
        used_codes: codes that some item has at each digit, bool [H, V].
        seconds: time that building the index took.
    """

    def __init__(
        self,
        sids: np.ndarray,
        codes: int,
        subsets: list[frozenset[int]] | None = None,
        items: np.ndarray | None = None,
    ) -> None:
        """
        Args:
            sids: distinct semantic IDs of the whole catalogue, [items, H], codes from 0 to V − 1.
            codes: V.
            subsets: sets of unmasked digits that the search can reach, the full set among them
                (`Decoding.reachable`); None for all 2^H sets.
            items: numbers of the items that the index holds, ascending; None for all.

        Raises:
            UserError: (V + 1)^H exceeds the range of int64, or there are too many subsets.
        """
        started = time.monotonic()
        self.codes = codes
        self.digits = sids.shape[1]
        self.place_values = place_values(self.digits, codes)
        self.catalogue_sids = torch.as_tensor(sids, dtype=torch.int64)  # [items, H]
        self.sids = self.catalogue_sids if items is None else self.catalogue_sids[items]  # [N, H]
        self.eligible = Eligible.of(len(sids), items)
        self.numbers, self.rows = (self.sids * self.place_values).sum(1).sort()
        subsets = every_subset(self.digits) if subsets is None else subsets
        self.partials = self._partials(subsets)
        self.subsets = torch.tensor([[h in subset for h in range(self.digits)] for subset in subsets])
        self.used_codes = torch.zeros((self.digits, codes), dtype=torch.bool)  # [H, V]
        self.used_codes[torch.arange(self.digits), self.sids] = True
        self._combinations: dict[int, tuple[Tensor, Tensor]] = {}
        self._exhausted: Tensor | None = None  # sorted numbers user · partials + position
        self.seconds = time.monotonic() - started

    @property
    def bytes(self) -> int:
        """Size of the tensors in bytes."""
        return sum(tensor.nbytes for tensor in (self.sids, self.numbers, self.rows, self.partials))

    def to(self, device: torch.device) -> PartialIndex:
        """Move the tensors to a device, and return this index."""
        if device != self.sids.device:
            self._combinations.clear()
            self.__dict__.pop("candidates", None)
            self.__dict__.pop("counts", None)
        for name in (
            "place_values",
            "sids",
            "catalogue_sids",
            "subsets",
            "numbers",
            "rows",
            "partials",
            "used_codes",
        ):
            setattr(self, name, getattr(self, name).to(device))
        self.eligible = self.eligible.to(device)
        return self

    def excluding(self, users: Tensor, items: Tensor) -> PartialIndex:
        """Return the index for a batch of users of whom some must not get certain items.

        Args:
            users: user of each pair, as a position in the batch, int64 [X].
            items: item of each pair, a number in the catalogue, int64 [X].
        """
        _ = self.candidates, self.counts  # computed once, and shared by the copies for all batches
        result = copy.copy(self)
        result.eligible = self.eligible.without(users, items)
        result._exhausted = self._exhausted_partials(result.eligible)
        return result

    def _exhausted_partials(self, eligible: Eligible) -> Tensor:
        """Return the partial SIDs that the search must not enter for a user, because all items that agree
        with them are excluded, as sorted numbers user · partials + position.
        """
        assert eligible.excluded is not None, "no pairs are excluded"
        users = eligible.excluded // len(self.sids)  # [X]
        sids = self.sids[eligible.excluded % len(self.sids)]  # [X, H]
        found = []
        for subset in self.subsets:
            position = torch.searchsorted(
                self.partials, self.number(torch.where(subset, sids, self.codes))
            )  # [X]
            found.append(users * len(self.partials) + position)
        pairs, counts = torch.cat(found).unique(return_counts=True)
        return pairs[counts == self.counts[pairs % len(self.partials)]]

    def select(self, users: Tensor) -> PartialIndex:
        """Return the index for some users of the batch that `excluding` was called with, int64 [B']."""
        result = copy.copy(self)
        result.eligible = self.eligible.select(users)
        return result

    def number(self, codes: Tensor) -> Tensor:
        """Return the numbers of partial SIDs: [..., H] codes, V where masked → int64 [...]."""
        return (codes * self.place_values).sum(-1)

    def valid(self, numbers: Tensor, users: Tensor | None = None) -> Tensor:
        """Return true for each partial SID that some item agrees with that the user may get.

        Args:
            numbers: of partial SIDs, int64, any shape.
            users: positions in the batch, int64, of a shape that broadcasts to that of `numbers`; None where
                no item is left out for single users.
        """
        position = torch.searchsorted(self.partials, numbers).clamp_(max=len(self.partials) - 1)
        valid = self.partials[position] == numbers
        if self._exhausted is None or users is None:
            return valid
        users = users if self.eligible.users is None else self.eligible.users[users]
        return valid & ~contains(self._exhausted, users * len(self.partials) + position)

    def lookup(self, numbers: Tensor) -> Tensor:
        """Return the rows of fully unmasked SIDs, −1 where no item has the SID: any shape → int64 of that
        shape.
        """
        position = torch.searchsorted(self.numbers, numbers).clamp_(max=len(self.numbers) - 1)
        return torch.where(self.numbers[position] == numbers, self.rows[position], -1)

    @cached_property
    def candidates(self) -> CandidateIndex:
        """Candidate index of the catalogue."""
        return CandidateIndex(self.sids, self.codes)

    @cached_property
    def counts(self) -> Tensor:
        """Number of items that agree with each of `partials`, int64 [partials]."""
        counts = torch.zeros_like(self.partials)
        for subset in self.subsets:
            numbers = self.number(torch.where(subset, self.sids, self.codes))  # [N]
            counts += torch.bincount(torch.searchsorted(self.partials, numbers), minlength=len(counts))
        return counts

    def combinations(self, digits: int) -> tuple[Tensor, Tensor]:
        """Return the combinations of codes that items of the whole catalogue have at a set of digits.

        Args:
            digits: the set; bit h stands for digit h.

        Returns:
            int64 [items], the combination of each item; int64 [G], what each combination adds to the number
            of a partial SID in which these digits are masked.
        """
        if digits not in self._combinations:
            chosen = torch.tensor([digits >> h & 1 for h in range(self.digits)], device=self.sids.device)
            change = (chosen * self.place_values * (self.catalogue_sids - self.codes)).sum(1)  # [items]
            distinct, group = change.unique(return_inverse=True)
            self._combinations[digits] = group, distinct
        return self._combinations[digits]

    def tie_break(self, numbers: Tensor) -> Tensor:
        """Return keys that order partial SIDs with equal scores, the lower first: the item's row, or the
        number of the partial SID where it is no item. Any shape → int64 of that shape.
        """
        rows = self.lookup(numbers)
        return torch.where(rows < 0, numbers, rows)

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
