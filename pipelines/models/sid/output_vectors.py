"""Output vectors of the item softmax and their products with states.

The vector of an item is the sum of its digit embeddings, plus a part of its own where the model has item
embeddings. The vectors of a large catalogue are not computed: the product of an item with a state is a sum
over digits of the state's products with the H·V digit embeddings, which are computed once (RecJPQ and PQTopK:
Petrov, Macdonald and Tonellotto 2024, arXiv 2408.09992), plus the product with the own part.

Shapes: N items, H digits per item, V codes per digit, D width, R states, Q pairs of a state and an item."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pipelines.models.denoiser import digit_sums
from pipelines.models.nn.precision import in_float32

TABLE = 1 << 24  # largest number of values of a table of all vectors; multiplying with it is faster
PAIRS = 1 << 16  # products computed at once, where they are computed pair by pair


@dataclass(frozen=True, eq=False)
class OutputVectors:
    """Output vectors w of all items, in two parts of which one may be missing.

    Attributes:
        sids: semantic IDs, int64 [N, H].
        digits: digit embeddings, those of the first digit first, float32 [H·V, D].
        own: what each item adds to the sum of its digit embeddings, float32 [N, D].
    """

    sids: Tensor
    digits: Tensor | None
    own: Tensor | None

    def __len__(self) -> int:
        return len(self.sids)

    def products(self, states: Tensor) -> Callable[[slice | Tensor], Tensor]:
        """Return a function that multiplies states with vectors.

        Args:
            states: float32 [R, D].

        Returns:
            A function from a slice of the items, or their numbers, int64 [items], to float32 [R, items].
        """
        table = self._table(states)  # [H·V, R]

        def of(items: slice | Tensor) -> Tensor:
            sums = None if table is None else digit_sums(table, self.sids[items])  # [items, R]
            if self.own is None:
                assert sums is not None, "a vector has parts"
                return sums.T
            with in_float32(states.device):
                own = self.own[items]
                return (own @ states.T if sums is None else sums.addmm_(own, states.T)).T

        return of

    def paired_products(self, states: Tensor, rows: Tensor, items: Tensor) -> Tensor:
        """Return the products of pairs of a state and an item, float32 [Q].

        Args:
            states: float32 [R, D].
            rows: rows of `states`, int64 [Q].
            items: int64 [Q].
        """
        H, R = self.sids.shape[1], len(states)
        table = self._table(states)  # [H·V, R]
        products = states.new_zeros(len(rows))
        for part in torch.arange(len(rows), device=rows.device).split(PAIRS):
            row, item = rows[part], items[part]
            if table is not None:
                tokens = self.sids[item] + torch.arange(H, device=rows.device) * (len(table) // H)
                products[part] += table.flatten()[tokens * R + row[:, None]].sum(1)
            if self.own is not None:
                products[part] += (states[row] * self.own[item]).sum(1)
        return products

    def _table(self, states: Tensor) -> Tensor | None:
        """Return the products of states [R, D] with the digit embeddings, float32 [H·V, R]."""
        if self.digits is None:
            return None
        with in_float32(states.device):
            return self.digits @ states.T
