"""Index of the partial semantic IDs that belong to some item: one sorted tensor of numbers, no trie."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from pipelines.data.candidates import place_values
from pipelines.data.eligible import Eligible, contains
from pipelines.decode.sid_index import Groups, SidIndex, Valid

if TYPE_CHECKING:
    from typing_extensions import Self

TABULATED = 4  # sets of digits with up to so many combinations for each item are marked in a table


class PartialIndex(SidIndex):
    """The distinct partial SIDs of a catalogue, for all subsets of unmasked digits or for those that an order
    can reach.

    A partial SID is a number in base V + 1, whose digit is V where the SID is masked. Membership is one
    `torch.searchsorted`. With every digit unmasked, the same number looks up the item. A subset of r unmasked
    digits has at most min(N, V^r) distinct partial SIDs, so that a catalogue of N items takes well below
    8·N·2^H bytes.

    The numbers are the keys. See `SidIndex` for the other attributes.

    Attributes:
        place_values: place value of each digit in the number of a partial SID, int64 [H].
        subsets: sets of unmasked digits that the index holds, bool [subsets, H].
        full: sorted numbers of the semantic IDs, int64 [N].
        rows: row of each of `full`, int32 [N].
        partials: sorted numbers of the distinct partial SIDs, int64 [partials].
    """

    branches = True
    tensors = (*SidIndex.tensors, "place_values", "subsets", "full", "rows", "partials")

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
            ValueError: (V + 1)^H exceeds the range of int64.
        """
        started = time.monotonic()
        super().__init__(sids, codes, items)
        self.place_values = place_values(self.digits, codes)
        numbers = self._masked_numbers(frozenset(range(self.digits))).numpy()
        order = np.argsort(numbers)
        self.full, self.rows = torch.as_tensor(numbers[order]), torch.as_tensor(order.astype(np.int32))
        del numbers, order
        subsets = every_subset(self.digits) if subsets is None else subsets
        self.partials = self._partials(subsets)
        self.subsets = torch.tensor([[h in subset for h in range(self.digits)] for subset in subsets])
        self._combinations: dict[int, tuple[Tensor, Tensor]] = {}
        self._exhausted: tuple[Tensor, Tensor] | None = None  # see `_exhausted_partials`
        self.seconds = time.monotonic() - started

    @property
    def bytes(self) -> int:
        """Size of the tensors in bytes, semantic IDs included."""
        tensors = {id(tensor): tensor for tensor in (self.sids, self.full, self.rows, self.partials)}
        return sum(tensor.nbytes for tensor in tensors.values())

    @property
    def content(self) -> str:
        return f"{len(self.partials):,} partial SIDs"

    def to(self, device: torch.device) -> PartialIndex:
        if device != self.sids.device:
            self._combinations.clear()
        super().to(device)
        return self

    def excluding(self, users: Tensor, items: Tensor) -> Self:
        result = super().excluding(users, items)
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
        numbers, place = self.keys(codes).unique(return_inverse=True)
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

    def keys(self, codes: Tensor) -> Tensor:
        return (codes * self.place_values).sum(-1)

    def codes_of(self, keys: Tensor) -> Tensor:
        return keys[..., None] // self.place_values % (self.codes + 1)

    def unmask(self, keys: Tensor, digit: Tensor, code: Tensor) -> Tensor:
        return keys + self.place_values[digit] * (code - self.codes)

    def numbers(self, keys: Tensor) -> Tensor:
        return keys

    def valid(self, keys: Tensor, users: Tensor | None = None) -> Tensor:
        position = torch.searchsorted(self.partials, keys).clamp_(max=len(self.partials) - 1)
        valid = self.partials[position] == keys
        if self._exhausted is None or users is None:
            return valid
        users = users if self.eligible.users is None else self.eligible.users[users]
        exhausted, pairs = self._exhausted
        if not len(exhausted):
            return valid
        position = torch.searchsorted(exhausted, keys).clamp_(max=len(exhausted) - 1)
        found = contains(pairs, users * len(exhausted) + position)
        return valid & ~(found & (exhausted[position] == keys))

    def constrain(
        self, scores: Tensor, codes: Tensor, digit: Tensor | None = None
    ) -> tuple[Tensor, Valid | None]:
        return scores, self.valid

    def lookup(self, keys: Tensor) -> Tensor:
        position = torch.searchsorted(self.full, keys).clamp_(max=len(self.full) - 1)
        return torch.where(self.full[position] == keys, self.rows[position].long(), -1)

    def group(self, chosen: Tensor, rows: Tensor, items: Tensor) -> Groups:
        bits = torch.arange(self.digits, device=chosen.device)
        sets, which = (chosen.long() << bits).sum(1).unique(return_inverse=True)  # sets of digits
        groups, changes = zip(*(self.combinations(number) for number in sets.tolist()), strict=True)
        padded = pad_sequence(list(changes), batch_first=True)  # [sets, G]
        group, set_of_pair = torch.empty_like(items), which[rows]  # [Q]
        for number, groups_of_items in enumerate(groups):
            of_set = (set_of_pair == number).nonzero().squeeze(1)
            group[of_set] = groups_of_items[items[of_set]].long()
        return Groups(group, padded.shape[1], lambda row, group: padded[which[row], group])

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

    def _partials(self, subsets: list[frozenset[int]]) -> Tensor:
        """Return the sorted distinct partial SIDs of some sets of unmasked digits.

        Those of a set with few possible combinations of codes are marked in a table of all combinations,
        which the sets within this one are read from; those of other sets are sorted.
        """
        radix = (self.sids.amax(0) + 1).tolist()  # codes of each digit that may occur
        tables: dict[frozenset[int], Tensor] = {}  # bool, a dimension for each digit of the set
        full = frozenset(range(self.digits))
        parts = [self.full] if full in subsets else []
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
    """
    return [frozenset(h for h in range(digits) if number >> h & 1) for number in range(2**digits)]
