"""Repeat bias: adds a learned scalar × (number of times the item occurs in the history) to the item's logit.

In models over items the output vectors are the input vectors. An item of the history therefore has a high
logit by itself. Where users take no item twice, a transformer would have to learn from attention alone to
lower this logit; where users do take items again, it would have to learn how much of the logit to keep. One
scalar, the same for all items, does both. RepeatNet (Ren et al. 2019, arXiv 1812.02646) instead has a decoder
of its own for repeated items.

Shapes: B sequences, R states, n items of a history, N items, D width, Q pairs of a state and an item.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pipelines.models.nn.packing import to_device


@dataclass(frozen=True, eq=False)
class RepeatBias:
    """Repeat bias of R histories.

    It adds a learned scalar × (number of times the item occurs in the history) to the item's logit.

    Attributes:
        history: int64 [R, n], the history of each state, −1 for none.
        scale: float32 [1], the learned scalar.
        sequences: int64 [B, n], sequences that the histories are parts of, place by place; None if each
            history is a sequence of its own.
        rows: int64 [R], sequence of each history; None if each history is a sequence of its own.
    """

    history: Tensor
    scale: Tensor
    sequences: Tensor | None = None
    rows: Tensor | None = None

    @classmethod
    def of(cls, history: Tensor, scale: Tensor | None) -> RepeatBias | None:
        """Return the repeat bias of histories [R, n]; None if the model has no `scale`."""
        return None if scale is None else cls(history, scale)

    @classmethod
    def of_places(
        cls, sequences: Tensor, rows: Tensor, ends: Tensor, scale: Tensor, device: torch.device
    ) -> RepeatBias:
        """Return the repeat bias of the first items of some sequences.

        Args:
            sequences: [B, n], on the host, −1 for none.
            rows: sequence of each state, int64 [R], on the host.
            ends: number of items of each history, int64 [R], on the host.
            scale: float32 [1].
            device: device of the states.
        """
        history = items_before(sequences, rows, ends)
        history, sequences, rows = (to_device(part, device) for part in (history, sequences.long(), rows))
        return cls(history, scale, sequences, rows)

    def add_to(self, logits: Tensor) -> Tensor:
        """Add the bias to float32 logits [R, N] in place, and return them."""
        return self.add_at(logits, self.history)

    def add_to_part(self, logits: Tensor, items: slice | Tensor) -> Tensor:
        """Add the bias to the logits of some items in place, and return them.

        Args:
            logits: float32 [R, items].
            items: a slice of the catalogue; or item numbers, ascending, int64 [items].
        """
        if isinstance(items, Tensor):
            place = torch.searchsorted(items, self.history.contiguous()).clamp_(max=len(items) - 1)
            return self.add_at(logits, place.masked_fill_(items[place] != self.history, -1))
        place = self.history - (items.start or 0)
        return self.add_at(logits, place.masked_fill_(place >= logits.shape[1], -1))

    def add_at(self, logits: Tensor, places: Tensor) -> Tensor:
        """Add the bias of the items of the histories in place, and return the logits.

        Args:
            logits: float32 [R, columns].
            places: column of each item of the history, below 0 where it has none, int64 [R, n].
        """
        return logits.scatter_add_(1, places.clamp(min=0), (places >= 0) * self.scale)

    def of_pairs(self, rows: Tensor, items: Tensor, N: int) -> Tensor:
        """Return the bias of pairs of a row and an item: int64 [Q] each → float32 [Q].

        Args:
            rows: rows of the histories.
            items: items of the catalogue.
            N: number of items of the catalogue.
        """
        owners, columns = (self.history >= 0).nonzero(as_tuple=True)
        if not len(owners):
            return self.scale.new_zeros(len(rows))
        pairs, counts = (owners * N + self.history[owners, columns]).unique(return_counts=True)
        wanted = rows * N + items
        place = torch.searchsorted(pairs, wanted).clamp_(max=len(pairs) - 1)
        return self.scale * (counts[place] * (pairs[place] == wanted))

    def of_items(self, items: Tensor) -> Tensor:
        """Return the bias of one item per row: items int64 [R] → float32 [R]."""
        return self.scale * (self.history == items[:, None]).sum(1)

    def mean(self, N: int) -> Tensor:
        """Return the mean bias over a catalogue of N items, for each row: float32 [R]."""
        return self.scale * (self.history >= 0).sum(1) / N

    def logits(self, states: Tensor, vectors: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the logits of the items of each history, with the bias; −inf where an item occurs again.

        Args:
            states: [R, D].
            vectors: function from items [Q] to their vectors [Q, D].

        Returns:
            float32 [R, n].
        """
        sequences = self.history if self.sequences is None else self.sequences
        known = vectors(sequences.clamp(min=0).flatten()).view(*sequences.shape, states.shape[1])  # [B, n, D]
        known = known if self.rows is None else known.index_select(0, self.rows)  # [R, n, D]
        logits = (known @ states[:, :, None]).squeeze(2).float()  # [R, n]
        same = self.history[:, :, None] == self.history[:, None, :]  # [R, n, n]
        repeated = same.tril(-1).any(2) | (self.history < 0)
        return (logits + self.scale * same.sum(2)).masked_fill(repeated, -torch.inf)

    def select(self, rows: Tensor) -> RepeatBias:
        """Return the bias of some of the rows, by their indices int64 [R'] or a mask bool [R]."""
        chosen = None if self.rows is None else self.rows[rows]
        return RepeatBias(self.history[rows], self.scale, self.sequences, chosen)


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
