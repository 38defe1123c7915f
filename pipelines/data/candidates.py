"""Candidate index: the items that agree with a partial semantic ID.

Shapes: N items, H digits per item, R partial semantic IDs, V codes per digit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


def fits_a_number(digits: int, codes: int) -> bool:
    """Return True if int64 counts the partial SIDs of H digits of V codes."""
    return (codes + 1) ** digits < 2**63


def place_values(digits: int, codes: int) -> Tensor:
    """Return the place value of each digit in the number of a partial SID, int64 [H].

    The base is V + 1, so that the value V stands for a masked digit.

    Args:
        digits: H.
        codes: V.

    Raises:
        ValueError: (V + 1)^H exceeds the range of int64.
    """
    if not fits_a_number(digits, codes):
        raise ValueError(f"int64 does not count the partial SIDs of {digits} digits of {codes} codes")
    return torch.tensor([(codes + 1) ** (digits - 1 - h) for h in range(digits)], dtype=torch.int64)


def group_starts(sizes: Tensor) -> Tensor:
    """Return the position of each group's first element, where groups lie one after another.

    Args:
        sizes: number of elements of each group, int64 [groups].

    Returns:
        int64 [groups].
    """
    return sizes.cumsum(0) - sizes


def prefix_order(subset: int, digits: int) -> tuple[int, ...]:
    """Return an order of the digits that begins with a set of digits, one of few orders that serve all sets.

    The sets of H digits form C(H, ⌊H/2⌋) chains of sets, each a superset of the one before with one digit
    more (Greene and Kleitman 1976, "Strong versions of Sperner's theorem"). All sets of a chain are first
    parts of one order. A digit outside the set opens a bracket, and a digit of the set closes one. Digits
    with a partner are the same throughout the chain; the others join the set from left to right.

    Args:
        subset: the set; bit h stands for digit h.
        digits: H.

    Returns:
        All digits; the first ones are the set.
    """
    open_brackets: list[int] = []
    partnered, unpartnered = [], []
    for digit in range(digits):
        if not subset >> digit & 1:
            open_brackets.append(digit)
        elif open_brackets:
            open_brackets.pop()
            partnered.append(digit)
        else:
            unpartnered.append(digit)
    first = [*partnered, *unpartnered, *open_brackets]
    return (*first, *(digit for digit in range(digits) if digit not in first))


@dataclass(frozen=True, eq=False)
class Ranges:
    """Ranges of agreeing items in one order of the catalogue.

    Attributes:
        rows: rows of the partial SIDs, int64 [r].
        order: all items in this order, int32 [N].
        begin: first place in the order, int64 [r].
        sizes: number of agreeing items, int64 [r].
    """

    rows: Tensor
    order: Tensor
    begin: Tensor
    sizes: Tensor

    def select(self, chosen: Tensor) -> Ranges:
        """Return some of the ranges: their positions, or bool [r]."""
        return Ranges(self.rows[chosen], self.order, self.begin[chosen], self.sizes[chosen])

    def split(self, pairs: int) -> Iterator[Ranges]:
        """Yield these ranges in parts of about so many items, or of one range where it has more."""
        parts = torch.unique_consecutive(self.sizes.cumsum(0) // pairs, return_counts=True)[1]
        for positions in torch.arange(len(self.rows), device=self.rows.device).split(parts.tolist()):
            yield self.select(positions)

    def pairs(self) -> tuple[Tensor, Tensor]:
        """Return every pair of a partial SID and an item of its range: rows and items, int64 [q] each."""
        shift = (self.begin - group_starts(self.sizes)).repeat_interleave(self.sizes)  # [q]
        items = self.order[shift + torch.arange(len(shift), device=shift.device)].long()  # [q]
        return self.rows.repeat_interleave(self.sizes), items


class CandidateIndex:
    """Items that agree with a partial semantic ID.

    The items are sorted by their digits, in several orders of the digits. The items that agree with a partial
    SID are a range in each order that begins with its unmasked digits (`prefix_order`). An order is sorted
    when it is first needed; for five digits there are at most ten, of 12 bytes an item each.

    Attributes:
        sids: semantic IDs, integers [N, H].
        codes: V.
    """

    def __init__(self, sids: Tensor, codes: int) -> None:
        """
        Args:
            sids: semantic IDs, integers [N, H].
            codes: V.

        Raises:
            ValueError: see `place_values`.
        """
        self.sids, self.codes = sids, codes
        self._place_values = place_values(self._digits_of_a_key(), codes).to(sids.device)  # [H]
        # [H + 1], distance of the next number with other first digits, by their number
        self._spans = torch.cat((self._place_values[:1] * (codes + 1), self._place_values))
        self._sorted: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}  # order → see `_sorted_by`

    @property
    def bytes(self) -> int:
        """Size of the orders that were needed so far, in bytes."""
        return sum(keys.nbytes + items.nbytes for keys, items in self._sorted.values())

    @staticmethod
    def complete_bytes(items: int, digits: int) -> int:
        """Return the size of an index of N items that has all orders, in bytes."""
        return 12 * items * math.comb(digits, digits // 2)

    def pairs(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Return every pair of a partial SID and an item that agrees with it.

        Args:
            codes: partial SIDs, int64 [R, H]; V where masked.

        Returns:
            int64 [Q], row of the partial SID; int64 [Q], number of the item.
        """
        rows, items = zip(*(part.pairs() for part in self.ranges(codes)), strict=True)
        return torch.cat(rows), torch.cat(items)

    def counts(self, codes: Tensor) -> Tensor:
        """Return the number of items that agree with each partial SID, int64 [R].

        Args:
            codes: partial SIDs, int64 [R, H]; V where masked.
        """
        counts = codes.new_zeros(len(codes))
        for part in self.ranges(codes):
            counts[part.rows] = part.sizes
        return counts

    def ranges(self, codes: Tensor, unmasked: Tensor | None = None) -> Iterator[Ranges]:
        """Yield the ranges of agreeing items, in one order after another.

        Args:
            codes: partial SIDs, int64 [R, H]; V where masked.
            unmasked: bool [R, H], on the host, so that it does not wait for the device; None to find it in
                the codes.
        """
        H, device = codes.shape[1], codes.device
        visible = (codes < self.codes).cpu() if unmasked is None else unmasked  # [R, H]
        subsets, which = torch.unique((visible << torch.arange(H)).sum(1), return_inverse=True)
        orders = [prefix_order(subset, H) for subset in subsets.tolist()]
        sizes = torch.tensor([subset.bit_count() for subset in subsets.tolist()])
        for order in dict.fromkeys(orders):
            chosen = torch.tensor([other == order for other in orders])
            rows = chosen[which].nonzero().squeeze(1)  # [r]
            rows, count = rows.to(device), sizes[which[rows]].to(device)  # [r], unmasked digits
            inside = torch.arange(H, device=device) < count[:, None]  # [r, H], the first digits of the order
            first = (codes[rows][:, list(order)] * inside * self._place_values).sum(1)  # [r]
            keys, items = self._sorted_by(order)
            begin = torch.searchsorted(keys, first)
            end = torch.searchsorted(keys, first + self._spans[count])
            yield Ranges(rows, items, begin, end - begin)

    def _digits_of_a_key(self) -> int:
        """Return the number of digits that the items are sorted by in each order."""
        return self.sids.shape[1]

    def _sorted_by(self, order: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Sort all items by their digits in an order.

        Returns:
            sorted numbers of the semantic IDs with their digits in this order, int64 [N]; their items, int32
            [N].
        """
        if order not in self._sorted:
            keys = self.sids.new_zeros(len(self.sids), dtype=torch.int64)
            for digit, place_value in zip(order, self._place_values.tolist(), strict=True):
                keys += self.sids[:, digit].long() * place_value
            keys, items = keys.sort(stable=True)
            self._sorted[order] = keys, items.int()
        return self._sorted[order]
