"""Candidate index of long semantic IDs, which have too many sets of digits for an order each.

Shapes: N items, H digits per item, R partial semantic IDs, V codes per digit, W digits of a window, q pairs of
a partial semantic ID and an item."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

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

    Each of H orders sorts the items by a window: W consecutive digits from one digit on, where the first digit
    follows the last, and W is the largest number of digits whose partial SIDs a 64-bit number counts. The
    items that have the unmasked digits at the begin of a window are a range of its order. Of the H ranges of a
    partial SID the one with the fewest expected items is taken, by the shares of the codes, and of this range
    the items that agree with the other unmasked digits.

    No item is compared for a single unmasked digit, N / V for two digits that are no neighbors, and few for
    more digits, where codes are equally frequent.
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

    @staticmethod
    def complete_bytes(items: int, digits: int) -> int:
        return 12 * items * digits

    def ranges(self, codes: Tensor, unmasked: Tensor | None = None) -> Iterator[Ranges]:
        """Yield the ranges of agreeing items: parts of orders, or lists of single items that were compared.

        Args:
            codes: partial SIDs, int64 [R, H]; V where masked.
            unmasked: not read here.
        """
        H, W = codes.shape[1], len(self._place_values)
        starts, lengths, others = self._windows(codes)
        for start in starts.unique().tolist():
            rows = (starts == start).nonzero().squeeze(1)  # [r]
            order = tuple((start + place) % H for place in range(W))
            whole = self._range(order, codes, rows, lengths[rows])
            compared = others[rows].any(1)  # [r]
            yield whole.select(~compared)
            for part in whole.select(compared).split(PAIRS):
                yield self._compare(part, codes, others)

    def _digits_of_a_key(self) -> int:
        digits = self.sids.shape[1]
        while not fits_a_number(digits, self.codes):
            digits -= 1
        return digits

    def _windows(self, codes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Choose a window for each partial SID [R, H].

        Returns:
            int64 [R], its first digit; int64 [R], the number of its digits up to the first masked one; bool
            [R, H], the unmasked digits that are not among these.
        """
        (R, H), digits = codes.shape, torch.arange(codes.shape[1], device=codes.device)
        visible = codes < self.codes
        shares = self._log_shares[digits, codes.clamp(max=self.codes - 1)] * visible  # [R, H]
        inside, lengths, expected = visible, visible.long(), shares  # of the window from each digit on
        for place in range(1, len(self._place_values)):
            inside = inside & visible.roll(-place, 1)
            lengths = lengths + inside
            expected = expected + shares.roll(-place, 1) * inside
        starts = expected.argmin(1)
        length = lengths.gather(1, starts[:, None])
        others = visible & ((digits - starts[:, None]) % H >= length)
        return starts, length.squeeze(1), others

    def _compare(self, part: Ranges, codes: Tensor, others: Tensor) -> Ranges:
        """Keep the items of ranges that agree with digits outside the window.

        Args:
            part: ranges of r rows.
            codes: all partial SIDs, int64 [R, H].
            others: their digits to compare, bool [R, H].
        """
        codes, others = codes[part.rows], others[part.rows]  # [r, H]
        digits = torch.arange(codes.shape[1], device=codes.device)
        shares = self._log_shares[digits, codes.clamp(max=self.codes - 1)].masked_fill(~others, 1.0)
        rarest, most = shares.argsort(1), int(others.sum(1).max()) if len(others) else 0
        row, item = dataclasses.replace(part, rows=torch.arange(len(codes), device=codes.device)).pairs()
        for place in range(most):
            digit = rarest[row, place]  # [q]
            agrees = ~others[row, digit] | (self.sids[item, digit] == codes[row, digit])
            row, item = row[agrees], item[agrees]
        sizes = torch.bincount(row, minlength=len(codes))
        return Ranges(part.rows, item.int(), group_starts(sizes), sizes)
