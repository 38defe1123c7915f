"""Logits of the items that an item softmax with item embeddings was not trained on.

A new item has digit embeddings but no item embedding, which for an item of the training holds most of what
distinguishes it from the items with similar codes. Two estimates of its logit remain: the logit of its
digits alone, and the logarithm of the mean exp(logit) of the trained items with the most similar texts. A new
item's logit is a weighted mean of the two, so its probability a geometric mean, plus a constant.

Shapes: B users, N items, Q pairs of a row and an item, X new items."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Chosen on validation of Beauty (`benchmarks.cold`): BIAS is the largest at which the warm targets lose at
# most 2 % of their Recall@10; the other values have the best cold Recall@10 at that loss.
NEIGHBORS = 20
SHARPNESS = 20.0  # a neighbor's weight is proportional to exp(SHARPNESS · cosine)
TEXT_SHARE = 0.7  # weight of the estimate from texts; the estimate from the digits has the rest
BIAS = 0.9
CELLS = 1 << 22  # similarities, or logits of neighbors, computed at once


class NewItems(nn.Module):
    """New items with their neighbors.

    Attributes:
        items: numbers of the new items, int64 [X], ascending.
        neighbors: trained items with the most similar texts, int64 [X, NEIGHBORS], or fewer columns where
            fewer items were trained.
        weights: of the neighbors, float32; a row sums to 1.
        shares: weight of the estimate from texts, float32 [X]: 0 for an item without text.
    """

    items: Tensor
    neighbors: Tensor
    weights: Tensor
    shares: Tensor
    _place: Tensor

    def __init__(self, items: Tensor, N: int, text: np.ndarray | None) -> None:
        """
        Args:
            items: numbers of the new items, int64 [X], ascending; fewer than N.
            N: number of items.
            text: text embeddings, float32 [N, E]; None where the model has no texts.
        """
        super().__init__()
        trained = torch.ones(N, dtype=torch.bool)
        trained[items] = False
        pool = trained.nonzero().squeeze(1)
        vectors = F.normalize(torch.zeros(N, 1) if text is None else torch.as_tensor(text).float())
        old = vectors[pool]
        best = [
            (vectors[part] @ old.T).topk(min(NEIGHBORS, len(pool)), dim=1)
            for part in items.split(max(1, CELLS // N))
        ]
        place = torch.full((N,), -1)
        place[items] = torch.arange(len(items))
        self.register_buffer("items", items, persistent=False)
        self.register_buffer(
            "neighbors", pool[torch.cat([found.indices for found in best])], persistent=False
        )
        similarities = torch.cat([found.values for found in best])
        self.register_buffer("weights", (SHARPNESS * similarities).softmax(1), persistent=False)
        self.register_buffer("shares", TEXT_SHARE * vectors[items].any(1).float(), persistent=False)
        self.register_buffer("_place", place, persistent=False)  # of an item among the new ones, −1: trained

    def correct(self, logits: Tensor, items: slice | Tensor, logits_of: Callable[[Tensor], Tensor]) -> Tensor:
        """Set the logits of the new ones among some items, in place.

        Args:
            logits: float32 [B, items]; those of new items are the logits of their digits.
            items: a slice of the catalogue, or item numbers, int64 [items].
            logits_of: returns the logits of trained items: int64 [trained], ascending → float32 [B, trained].

        Returns:
            The same tensor.
        """
        if torch.compiler.is_exporting():
            return self._correct_all(logits)
        place = self._place[items]
        columns = (place >= 0).nonzero().squeeze(1)
        if not len(columns):
            return logits
        for part in columns.split(max(1, CELLS // (len(logits) * self.neighbors.shape[1]))):
            chosen = place[part]  # [X]
            trained, neighbors = self.neighbors[chosen].unique(return_inverse=True)
            near = logits_of(trained)  # [B, trained]
            largest = near.amax(1)  # [B]
            likely = (near - largest[:, None]).exp_().T.contiguous()  # [trained, B]
            means = F.embedding_bag(
                neighbors, likely, per_sample_weights=self.weights[chosen], mode="sum"
            )  # [X, B]
            texts = _log(means).T + largest[:, None]
            logits[:, part] = self._mixed(logits[:, part], texts, self.shares[chosen])
        return logits

    def _correct_all(self, logits: Tensor) -> Tensor:
        """Set the logits of the new items among all [B, N], in an exported graph, whose shapes are fixed."""
        largest = logits.amax(1, keepdim=True)  # [B, 1]
        likely = (logits - largest).exp()
        means = (likely[:, self.neighbors] * self.weights).sum(2)  # [B, X]
        logits[:, self.items] = self._mixed(logits[:, self.items], _log(means) + largest, self.shares)
        return logits

    def correct_pairs(
        self, logits: Tensor, rows: Tensor, items: Tensor, logits_of: Callable[[Tensor, Tensor], Tensor]
    ) -> Tensor:
        """Set the logits of the pairs whose item is new, in place.

        Args:
            logits: float32 [Q]; those of new items are the logits of their digits.
            rows: int64 [Q].
            items: int64 [Q].
            logits_of: returns the logits of pairs of a row and a trained item: float32 [Q'].

        Returns:
            The same tensor.
        """
        pairs = (self._place[items] >= 0).nonzero().squeeze(1)  # [Q']
        place = self._place[items[pairs]]
        neighbors = self.neighbors[place]  # [Q', NEIGHBORS]
        near = logits_of(rows[pairs].repeat_interleave(neighbors.shape[1]), neighbors.flatten())
        mean = (near.view(neighbors.shape) + _log(self.weights[place])).logsumexp(1)
        logits[pairs] = self._mixed(logits[pairs], mean, self.shares[place])
        return logits

    @staticmethod
    def _mixed(digits: Tensor, texts: Tensor, shares: Tensor) -> Tensor:
        """Return logits from the two estimates [..., X]."""
        return digits + shares * (texts - digits) + BIAS


def _log(values: Tensor) -> Tensor:
    """Return the logarithm, finite at 0."""
    return values.clamp_min(torch.finfo(values.dtype).tiny).log()
