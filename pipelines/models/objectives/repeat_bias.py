"""Repeat bias: adds a learned scalar × (number of times the item occurs in the history) to the item's logit.

In models over items the output vectors are the input vectors. An item of the history therefore has a high
logit by itself. Where users take no item twice, a transformer would have to learn from attention alone to
lower this logit; where users do take items again, it would have to learn how much of the logit to keep. One
scalar, the same for all items, does both. RepeatNet (Ren et al. 2019, arXiv 1812.02646) instead has a decoder
of its own for repeated items.

Shapes: B sequences, R states, n items of a history, N items.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class RepeatBias:
    """Repeat bias of R histories.

    It adds a learned scalar × (number of times the item occurs in the history) to the item's logit.

    Attributes:
        history: int64 [R, n], the history of each state, −1 for none.
        scale: float32 [1], the learned scalar.
    """

    history: Tensor
    scale: Tensor

    @classmethod
    def of(cls, history: Tensor, scale: Tensor | None) -> RepeatBias | None:
        """Return the repeat bias of histories [R, n]; None if the model has no `scale`."""
        return None if scale is None else cls(history, scale)

    def add_to(self, logits: Tensor) -> Tensor:
        """Add the bias to float32 logits [R, N] in place, and return them."""
        return logits.scatter_add_(1, self.history.clamp(min=0), (self.history >= 0) * self.scale)

    def of_items(self, items: Tensor) -> Tensor:
        """Return the bias of one item per row: items int64 [R] → float32 [R]."""
        return self.scale * (self.history == items[:, None]).sum(1)

    def mean(self, N: int) -> Tensor:
        """Return the mean bias over a catalogue of N items, for each row: float32 [R]."""
        return self.scale * (self.history >= 0).sum(1) / N

    def select(self, rows: Tensor) -> RepeatBias:
        """Return the bias of some of the rows, by their indices int64 [R'] or a mask bool [R]."""
        return RepeatBias(self.history[rows], self.scale)


def items_before(items: Tensor, rows: Tensor, ends: Tensor) -> Tensor:
    """Return the first items of some sequences.

    Args:
        items: [B, n], the sequences.
        rows: int64 [R], a sequence for each result.
        ends: int64 [R], the number of items to keep.

    Returns:
        int64 [R, n], −1 after the kept items.
    """
    return items[rows].long().masked_fill(torch.arange(items.shape[1]) >= ends[:, None], -1)
