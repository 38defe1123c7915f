"""Index of the partial semantic IDs that belong to some item: one sorted tensor of numbers, no trie."""

from __future__ import annotations

import copy
import math
import time
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from pipelines.data.candidates import CandidateIndex, place_values
from pipelines.data.eligible import Eligible, contains
from pipelines.errors import UserError

TABULATED = 4  # sets of digits with up to so many combinations for each item are marked in a table
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
        sids: semantic IDs, int32 [N, H].
        catalogue_sids: semantic IDs of the whole catalogue, int32 [items, H].
        eligible: items of the rows, and the pairs of a user and an item that are left out.
        subsets: sets of unmasked digits that the index holds, bool [subsets, H].
        numbers: sorted numbers of the semantic IDs, int64 [N].
        rows: row of each of `numbers`, int32 [N].
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
        self.catalogue_sids = torch.as_tensor(sids, dtype=torch.int32)  # [items, H]
        self.sids = self.catalogue_sids if items is None else self.catalogue_sids[items]  # [N, H]
        self.eligible = Eligible.of(len(sids), items)
        numbers = self._masked_numbers(frozenset(range(self.digits))).numpy()
        order = np.argsort(numbers)
        self.numbers, self.rows = torch.as_tensor(numbers[order]), torch.as_tensor(order.astype(np.int32))
        del numbers, order
        subsets = every_subset(self.digits) if subsets is None else subsets
        self.partials = self._partials(subsets)
        self.subsets = torch.tensor([[h in subset for h in range(self.digits)] for subset in subsets])
        self.used_codes = torch.zeros((self.digits, codes), dtype=torch.bool)  # [H, V]
        for used, column in zip(self.used_codes, self.sids.T, strict=True):
            used[column] = True
        self._combinations: dict[int, tuple[Tensor, Tensor]] = {}
        self._exhausted: tuple[Tensor, Tensor] | None = None  # see `_exhausted_partials`
        self.seconds = time.monotonic() - started

    @property
    def bytes(self) -> int:
        """Size of the tensors in bytes, semantic IDs included."""
        tensors = {id(tensor): tensor for tensor in (self.sids, self.numbers, self.rows, self.partials)}
        return sum(tensor.nbytes for tensor in tensors.values())

    def to(self, device: torch.device) -> PartialIndex:
        """Move the tensors to a device, and return this index."""
        if device != self.sids.device:
            self._combinations.clear()
            self.__dict__.pop("candidates", None)
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
        _ = self.candidates  # shared by the copies for all batches
        result = copy.copy(self)
        result.eligible = self.eligible.without(users, items)
        result._exhausted = self._exhausted_partials(result.eligible)
        return result

    def _exhausted_partials(self, eligible: Eligible) -> tuple[Tensor, Tensor]:
        """Return the partial SIDs that the search must not enter for a user, because all items that agree
        with them are excluded: sorted numbers of partial SIDs, int64 [E]; and sorted pairs of a user and one
        of them, as numbers user · E + position.
        """
        assert eligible.excluded is not None, "no pairs are excluded"
        users = eligible.excluded // len(self.sids)  # [X]
        sids = self.sids[eligible.excluded % len(self.sids)]  # [X, H]
        codes = torch.where(self.subsets[:, None], sids, self.codes).flatten(0, 1)  # [subsets·X, H]
        numbers, place = self.number(codes).unique(return_inverse=True)
        owners = users.repeat(len(self.subsets))
        pairs, counts = (owners * len(numbers) + place).unique(return_counts=True)
        user, place = pairs // len(numbers), pairs % len(numbers)
        partials = numbers[:, None] // self.place_values % (self.codes + 1)  # [numbers, H]
        exhausted = counts == self._agreeing(partials)[place]
        kept, place = place[exhausted].unique(return_inverse=True)
        return numbers[kept], user[exhausted] * len(kept) + place

    def _agreeing(self, codes: Tensor) -> Tensor:
        """Return the number of items that agree with each of some partial SIDs of items, int64 [R]."""
        masked = codes == self.codes
        counts = torch.ones_like(codes[:, 0])  # a whole SID belongs to one item
        counts[masked.all(1)] = len(self.sids)
        partly = (masked.any(1) & ~masked.all(1)).nonzero().squeeze(1)
        if len(partly):
            counts[partly] = self.candidates.counts(codes[partly])
        return counts

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
        exhausted, pairs = self._exhausted
        if not len(exhausted):
            return valid
        position = torch.searchsorted(exhausted, numbers).clamp_(max=len(exhausted) - 1)
        found = contains(pairs, users * len(exhausted) + position)
        return valid & ~(found & (exhausted[position] == numbers))

    def lookup(self, numbers: Tensor) -> Tensor:
        """Return the rows of fully unmasked SIDs, −1 where no item has the SID: any shape → int64 of that
        shape.
        """
        position = torch.searchsorted(self.numbers, numbers).clamp_(max=len(self.numbers) - 1)
        return torch.where(self.numbers[position] == numbers, self.rows[position].long(), -1)

    @cached_property
    def candidates(self) -> CandidateIndex:
        """Candidate index of the catalogue."""
        return CandidateIndex(self.sids, self.codes)

    def combinations(self, digits: int) -> tuple[Tensor, Tensor]:
        """Return the combinations of codes that items of the whole catalogue have at a set of digits.

        Args:
            digits: the set; bit h stands for digit h.

        Returns:
            int32 [items], the combination of each item; int64 [G], what each combination adds to the number
            of a partial SID in which these digits are masked.
        """
        if digits not in self._combinations:
            chosen = torch.tensor([digits >> h & 1 for h in range(self.digits)], device=self.sids.device)
            change = (chosen * self.place_values * (self.catalogue_sids - self.codes)).sum(1)  # [items]
            distinct, group = change.unique(return_inverse=True)
            self._combinations[digits] = group.int(), distinct
        return self._combinations[digits]

    def tie_break(self, numbers: Tensor) -> Tensor:
        """Return keys that order partial SIDs with equal scores, the lower first: the item's row, or the
        number of the partial SID where it is no item. Any shape → int64 of that shape.
        """
        rows = self.lookup(numbers)
        return torch.where(rows < 0, numbers, rows)

    def _partials(self, subsets: list[frozenset[int]]) -> Tensor:
        """Return the sorted distinct partial SIDs of some sets of unmasked digits.

        Those of a set with few possible combinations of codes are marked in a table of all combinations,
        which the sets within this one are read from; those of other sets are sorted.
        """
        radix = (self.sids.amax(0) + 1).tolist()  # codes of each digit that may occur
        tables: dict[frozenset[int], Tensor] = {}  # bool, a dimension for each digit of the set
        full = frozenset(range(self.digits))
        parts = [self.numbers] if full in subsets else []
        for subset in sorted({*subsets} - {full}, key=len, reverse=True):
            shape = [radix[h] for h in sorted(subset)]
            if math.prod(shape) > TABULATED * len(self.sids):
                numbers = torch.as_tensor(np.sort(self._masked_numbers(subset).numpy()))
                parts.append(numbers.unique_consecutive())
                continue
            larger = min((t for t in tables if t > subset), key=len, default=None)
            if larger is None:
                table = torch.zeros(shape, dtype=torch.bool)
                table[tuple(self.sids[:, h] for h in sorted(subset))] = True
            else:
                outside = [place for place, h in enumerate(sorted(larger)) if h not in subset]
                table = tables[larger].sum(outside, dtype=torch.int32).bool() if outside else tables[larger]
            tables[subset] = table
            parts.append(self._marked_numbers(table, subset))
        del tables
        if len(parts) == 1:
            return parts[0]
        # Each part is sorted. NumPy's stable sort merges the parts in a fraction of the time of a new sort.
        partials = torch.cat(parts)
        partials.numpy().sort(kind="stable")
        return partials

    def _masked_numbers(self, subset: frozenset[int]) -> Tensor:
        """Return the number of each item's partial SID with only these digits unmasked, int64 [N]."""
        masked = [self.codes * int(self.place_values[h]) for h in range(self.digits) if h not in subset]
        numbers = torch.full((len(self.sids),), sum(masked))
        for h in subset:
            numbers += self.sids[:, h].long() * self.place_values[h]
        return numbers

    def _marked_numbers(self, table: Tensor, subset: frozenset[int]) -> Tensor:
        """Return the numbers of the combinations that are marked in a table of a set of digits, sorted."""
        numbers = torch.tensor(
            sum(self.codes * int(self.place_values[h]) for h in range(self.digits) if h not in subset)
        )
        for size, h in zip(table.shape, sorted(subset), strict=True):
            numbers = numbers[..., None] + torch.arange(size) * self.place_values[h]
        return numbers[table]


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
