"""The items that agree with a partial semantic ID."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from pipelines.errors import UserError


def place_values(digits: int, codes: int) -> Tensor:
    """What each digit counts in the number of a partial SID, int64 [H]: base V + 1, so that V stands for a masked digit.

    Raises:
        UserError: (V + 1)^H does not fit an int64.
    """
    if (codes + 1) ** digits >= 2**63:
        raise UserError(
            f"Semantic IDs of {digits} digits of {codes} codes have more partial SIDs than 64 bits count: to reveal digits in any order, "
            "(codes + 1) ** digits must stay below 2 ** 63. Make shorter ones, e.g. `maskgr tokenize --sids 4`, or a smaller --codebook."
        )
    return torch.tensor([(codes + 1) ** (digits - 1 - h) for h in range(digits)], dtype=torch.int64)


class CandidateIndex:
    """The items that agree with a partial semantic ID: for every subset of digits asked for, items sorted by these digits."""

    def __init__(self, sids: Tensor, codes: int) -> None:
        """
        Args:
            sids: int64 [N, H].
            codes: V.
        """
        self.sids, self.codes, H = sids, codes, sids.shape[1]
        self.columns = sids + torch.arange(H, device=sids.device) * codes  # [N, H], into H·V
        self.bits = 1 << torch.arange(H, device=sids.device)
        self.place = place_values(H, codes).to(sids.device)
        self._sorted: dict[int, tuple[Tensor, Tensor]] = {}

    def pairs(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Every pair of a partial SID of [R, H] (V where masked) and an item that agrees with it: int64 [Q] rows, [Q] items."""
        rows, items = [], []
        for at, order, first, end in self._spans(codes):
            count = end - first
            rows.append(at.repeat_interleave(count))
            start = (first - (count.cumsum(0) - count)).repeat_interleave(count)
            items.append(order[start + torch.arange(len(start), device=start.device)])
        return torch.cat(rows), torch.cat(items)

    def counts(self, codes: Tensor) -> Tensor:
        """How many items agree with each partial SID of [R, H], int64 [R]."""
        found = codes.new_zeros(len(codes))
        for at, _, first, end in self._spans(codes):
            found[at] = end - first
        return found

    def _spans(self, codes: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """For each set of revealed digits: rows of codes [R, H], the items sorted by these digits, where those that agree begin and end."""
        subsets, numbers = ((codes < self.codes) * self.bits).sum(1), (codes * self.place).sum(1)
        for subset in subsets.unique().tolist():
            at = (subsets == subset).nonzero().squeeze(1)
            ordered, order = self._of(subset)
            yield (
                at,
                order,
                *(torch.searchsorted(ordered, numbers[at], right=right) for right in (False, True)),
            )

    def _of(self, subset: int) -> tuple[Tensor, Tensor]:
        """The items' numbers with only these digits revealed, sorted, and whose they are."""
        if subset not in self._sorted:
            shown = (subset & self.bits) > 0
            self._sorted[subset] = (
                (torch.where(shown, self.sids, self.codes) * self.place).sum(1).sort(stable=True)
            )
        return self._sorted[subset]
