"""The part that models with a learned vector for each item have in common.

Shapes: B users, N items of the catalogue.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.models.base import ItemRanker


class ItemVectors(ItemRanker):
    """A model that knows items by their number.

    It has no vector for an item that it was not trained on. Such an item is zero in a history, and comes
    after all other items in a ranking.

    Attributes:
        embedding: vectors of the items, and of MASK where the model has one.
        unknown: bool [N], True for the items without a vector; None if there are none.
    """

    embedding: nn.Embedding
    unknown: Tensor | None

    def history_vectors(self) -> Tensor:
        return self.embedding.weight[: self.items]

    def rank_new_items(self, items: Tensor, text: np.ndarray | None) -> None:
        """Take away the vectors of items; see `Recommender.rank_new_items`."""
        weight = self.embedding.weight
        with torch.no_grad():
            weight[items.to(weight.device)] = 0.0
        unknown = torch.zeros(self.items, dtype=torch.bool)
        unknown[items.cpu()] = True
        self.unknown = unknown.to(weight.device)

    def ranked(self, scores: Tensor, items: slice | Tensor = slice(None)) -> Tensor:
        """Return the float32 scores [B, items] of some items with the lowest number for those without a
        vector.
        """
        if self.unknown is None:
            return scores
        return scores.masked_fill(self.unknown[items], torch.finfo(scores.dtype).min)
