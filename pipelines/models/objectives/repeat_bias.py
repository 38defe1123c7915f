"""Whether people take again what they have: a learnt number, added to the score of an item for each time that its history holds it.

Output vectors are input vectors in models over items, so that what has just been seen scores high by itself, and a transformer must
learn from attention alone to take that back where nobody takes anything twice (or how much of it to keep where people do). One
number says it for all items; RepeatNet (Ren et al. 2019, arXiv 1812.02646) gives repeats a decoder of their own.

Shapes: R states, n items of a history, N items.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Held:
    """What the histories of R states hold.

    Attributes:
        items: int64 [R, n], −1: none.
        bias: float32 [1], the learnt number.
    """

    items: Tensor
    bias: Tensor

    def added(self, scores: Tensor) -> Tensor:
        """Float32 scores [R, N] with the bias where an item is held, as often as it is; changes `scores`."""
        return scores.scatter_add_(1, self.items.clamp(min=0), (self.items >= 0) * self.bias)

    def times(self, items: Tensor) -> Tensor:
        """How often each state's history holds an item [R], int64 [R]."""
        return (self.items == items[:, None]).sum(1)

    @property
    def total(self) -> Tensor:
        """How many items each history holds, int64 [R]."""
        return (self.items >= 0).sum(1)

    def of(self, rows: Tensor) -> Held:
        """Of some of the states [R'] alone."""
        return Held(self.items[rows], self.bias)


def held_by(items: Tensor, bias: Tensor | None) -> Held | None:
    """What histories [R, n] hold; None where no bias is learnt."""
    return None if bias is None else Held(items, bias)


def with_repeats(scores: Tensor, held: Held | None) -> Tensor:
    """Float32 scores [R, N] with the bias of what is held, if any; may change `scores`."""
    return held.added(scores) if held else scores


def items_before(items: Tensor, rows: Tensor, ends: Tensor) -> Tensor:
    """The first `ends` [R] items of some `rows` [R] of sequences [B, n], int64 [R, n], −1 after them."""
    return items[rows].long().masked_fill(torch.arange(items.shape[1]) >= ends[:, None], -1)
