"""Candidate index: the items that agree with a partial semantic ID."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from pipelines.errors import UserError


def place_values(digits: int, codes: int) -> Tensor:
    """Return the place value of each digit in the number of a partial SID, int64 [H].

    The base is V + 1, so that the value V stands for a masked digit.

    Args:
        digits: H.
        codes: V.

    Raises:
        UserError: (V + 1)^H exceeds the range of int64.
    """
    if (codes + 1) ** digits >= 2**63:
        raise UserError(
            f"Semantic IDs of {digits} digits of {codes} codes have more partial SIDs than a 64-bit number "
            "can count: to unmask digits in any order, (codes + 1) ** digits must stay below 2 ** 63. "
            "Make shorter ones, e.g. `maskgr tokenize --sids 4`, or a smaller --codebook."
        )
    return torch.tensor([(codes + 1) ** (digits - 1 - h) for h in range(digits)], dtype=torch.int64)


def group_starts(sizes: Tensor) -> Tensor:
    """Return the position of each group's first element, where groups lie one after another.

    Args:
        sizes: number of elements of each group, int64 [groups].

    Returns:
        int64 [groups].
    """
    return sizes.cumsum(0) - sizes


class CandidateIndex:
    """Items that agree with a partial semantic ID.

    For each subset of unmasked digits that occurs, the items are sorted once by these digits; the items that
    agree with a partial SID are then a contiguous range.

    Attributes:
        sids: semantic IDs, int64 [N, H].
        codes: V.
        columns: for each digit of each item, the column of its code among all H·V codes, int64 [N, H].
    """

    def __init__(self, sids: Tensor, codes: int) -> None:
        """
        Args:
            sids: semantic IDs, int64 [N, H].
            codes: V.
        """
        H = sids.shape[1]
        self.sids, self.codes = sids, codes
        self.columns = sids + torch.arange(H, device=sids.device) * codes  # [N, H]
        self._bits = 1 << torch.arange(H, device=sids.device)  # [H], of each digit in a subset's number
        self._place_values = place_values(H, codes).to(sids.device)  # [H]
        self._sorted: dict[int, tuple[Tensor, Tensor]] = {}  # subset → see `_sorted_by`

    def pairs(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Return every pair of a partial SID and an item that agrees with it.

        Args:
            codes: partial SIDs, int64 [R, H]; V where masked.

        Returns:
            int64 [Q], row of the partial SID; int64 [Q], number of the item.
        """
        rows, items = [], []
        for row, order, begin, end in self._ranges(codes):
            count = end - begin  # [r]
            rows.append(row.repeat_interleave(count))  # [q]
            shift = (begin - group_starts(count)).repeat_interleave(count)  # [q]
            items.append(order[shift + torch.arange(len(shift), device=shift.device)])  # [q]
        return torch.cat(rows), torch.cat(items)

    def counts(self, codes: Tensor) -> Tensor:
        """Return the number of items that agree with each partial SID, int64 [R].

        Args:
            codes: partial SIDs, int64 [R, H]; V where masked.
        """
        counts = codes.new_zeros(len(codes))
        for row, _, begin, end in self._ranges(codes):
            counts[row] = end - begin
        return counts

    def _ranges(self, codes: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Yield the ranges of agreeing items, for one subset of unmasked digits after another.

        Args:
            codes: partial SIDs, int64 [R, H]; V where masked.

        Yields:
            rows of `codes` with this subset, int64 [r]; items sorted by these digits, int64 [N]; begin and
            end of the range of agreeing items in this order, int64 [r] each.
        """
        subsets = ((codes < self.codes) * self._bits).sum(1)  # [R]
        numbers = (codes * self._place_values).sum(1)  # [R]
        for subset in torch.unique(subsets).tolist():
            row = (subsets == subset).nonzero().squeeze(1)
            ordered, order = self._sorted_by(subset)
            begin = torch.searchsorted(ordered, numbers[row])
            end = torch.searchsorted(ordered, numbers[row], right=True)
            yield row, order, begin, end

    def _sorted_by(self, subset: int) -> tuple[Tensor, Tensor]:
        """Sort all items by a subset of their digits.

        Returns:
            sorted numbers of the partial SIDs with only this subset unmasked, int64 [N]; their items,
            int64 [N].
        """
        if subset not in self._sorted:
            unmasked = (subset & self._bits) > 0  # [H]
            numbers = (torch.where(unmasked, self.sids, self.codes) * self._place_values).sum(1)  # [N]
            self._sorted[subset] = numbers.sort(stable=True)
        return self._sorted[subset]
