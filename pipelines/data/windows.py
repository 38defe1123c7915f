"""Candidate index of long semantic IDs, which have too many sets of digits for an order each.

Shapes: N items, H digits per item, R partial semantic IDs, V codes per digit, W digits of a window, q pairs
of a partial semantic ID and an item."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import cached_property

import torch
from torch import Tensor

from pipelines.data.candidates import CandidateIndex, Ranges, fits_a_number, group_starts

MOST_DIGITS = 8  # the C(8, 4) = 70 orders that serve all sets of 8 digits take 840 bytes an item
PAIRS = 1 << 20  # pairs of a partial SID and an item that are compared at once


def is_short(digits: int, codes: int) -> bool:
    """Return True if a partial SID of H digits of V codes fits a number and few orders serve all sets."""
    return digits <= MOST_DIGITS and fits_a_number(digits, codes)


def candidate_index(sids: Tensor, codes: int) -> CandidateIndex:
    """Return the candidate index for semantic IDs of this length.

    Args:
        sids: semantic IDs, integers [N, H].
        codes: V.
    """
    return (CandidateIndex if is_short(sids.shape[1], codes) else WindowIndex)(sids, codes)


def complete_bytes(items: int, digits: int, codes: int) -> int:
    """Return the size of the candidate index of N items that has all orders, in bytes."""
    return (CandidateIndex if is_short(digits, codes) else WindowIndex).complete_bytes(items, digits)


class WindowIndex(CandidateIndex):
    """Items that agree with a partial semantic ID of any number of digits.

    Each of H orders sorts the items by a window: W consecutive digits from one digit on, where the first
    digit follows the last. W is the largest number of digits for which 64-bit numbers count the partial SIDs
    of all windows. The items that have the unmasked digits at the begin of a window are a range of its order.
    Of the H ranges of a partial SID the one with the fewest expected items is taken, by the shares of the
    codes, and of this range the items that agree with the other unmasked digits.

    No item is compared for a single unmasked digit, N / V for two digits that are no neighbors, and few for
    more digits, where codes are equally frequent. At most N are.
    """

    def __init__(self, sids: Tensor, codes: int) -> None:
        """
        Args:
            sids: semantic IDs, integers [N, H].
            codes: V.
        """
        super().__init__(sids, codes)
        counts = torch.stack([torch.bincount(column.long(), minlength=codes) for column in sids.T])
        self._log_shares = (counts.clamp(min=1) / max(1, len(sids))).log()  # [H, V]

    @property
    def bytes(self) -> int:
        orders = self.__dict__.get("_orders", ())
        return sum(tensor.nbytes for tensor in orders)

    @staticmethod
    def complete_bytes(items: int, digits: int) -> int:
        return 12 * items * digits

    def ranges(self, codes: Tensor, unmasked: Tensor | None = None) -> Iterator[Ranges]:
        """Yield the ranges of agreeing items: parts of orders, or lists of single items that were compared.

        Args:
            codes: partial SIDs, int64 [R, H]; V where masked.
            unmasked: not read here.
        """
        whole, others = self._windows(codes)
        compared = others.any(1)  # [R]
        yield whole.select(~compared)
        for part in whole.select(compared).split(PAIRS):
            yield self._compare(part, codes[part.rows], others[part.rows])

    def _digits_of_a_key(self) -> int:
        H = self.sids.shape[1]
        return max(1, *(W for W in range(1, H + 1) if H * (self.codes + 1) ** W < 2**63))

    @cached_property
    def _orders(self) -> tuple[Tensor, Tensor]:
        """The orders of the items, one after another: numbers of the windows' digits, before which stands the
        number of the window, sorted, int64 [H·N]; and the items, int32 [H·N].
        """
        H, W = self.sids.shape[1], len(self._place_values)
        orders = [self._sorted_by(tuple((h + place) % H for place in range(W))) for h in range(H)]
        self._sorted.clear()
        keys = torch.cat([keys + h * self._spans[0] for h, (keys, _) in enumerate(orders)])
        return keys, torch.cat([items for _, items in orders])

    def _windows(self, codes: Tensor) -> tuple[Ranges, Tensor]:
        """Choose a window for each partial SID [R, H].

        Returns:
            The items with its digits up to the first masked one; and the unmasked digits that are not among
            these, bool [R, H].
        """
        H, digits = codes.shape[1], torch.arange(codes.shape[1], device=codes.device)
        visible = codes < self.codes
        shares = self._log_shares[digits, codes.clamp(max=self.codes - 1)] * visible  # [R, H]
        inside, lengths, expected = visible, visible.long(), shares  # of the window from each digit on
        numbers = codes * visible * self._place_values[0]
        for place, value in enumerate(self._place_values[1:].tolist(), start=1):
            inside = inside & visible.roll(-place, 1)
            lengths = lengths + inside
            expected = expected + shares.roll(-place, 1) * inside
            numbers = numbers + codes.roll(-place, 1) * inside * value
        starts = expected.argmin(1, keepdim=True)
        length = lengths.gather(1, starts)
        others = visible & ((digits - starts) % H >= length)
        first = (numbers.gather(1, starts) + starts * self._spans[0]).squeeze(1)
        keys, items = self._orders
        bounds = torch.stack((first, first + self._spans[length.squeeze(1)]))
        begin, end = torch.searchsorted(keys, bounds)
        return Ranges(torch.arange(len(codes), device=codes.device), items, begin, end - begin), others

    def _compare(self, part: Ranges, codes: Tensor, others: Tensor) -> Ranges:
        """Keep the items of ranges that agree with digits outside the window.

        The rarest digits are compared first, one by one while many items are left.

        Args:
            part: ranges of r partial SIDs.
            codes: these partial SIDs, int64 [r, H].
            others: their digits to compare, bool [r, H].
        """
        H, digits = codes.shape[1], torch.arange(codes.shape[1], device=codes.device)
        shares = self._log_shares[digits, codes.clamp(max=self.codes - 1)].masked_fill(~others, 1.0)
        rarest = shares.argsort(1)
        row, item = dataclasses.replace(part, rows=torch.arange(len(codes), device=codes.device)).pairs()
        for place in range(H):
            if len(row) * H <= PAIRS:
                agrees = (~others[row] | (self.sids[item] == codes[row])).all(1)
                row, item = row[agrees], item[agrees]
                break
            digit = rarest[row, place]  # [q]
            agrees = ~others[row, digit] | (self.sids[item, digit] == codes[row, digit])
            row, item = row[agrees], item[agrees]
        sizes = torch.bincount(row, minlength=len(codes))
        return Ranges(part.rows, item.int(), group_starts(sizes), sizes)
