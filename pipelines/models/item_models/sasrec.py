"""SASRec: a causal transformer over item ids (Kang and McAuley 2018, arXiv 1808.09781).

Every item of a sequence is predicted from those before it, in one pass. Input and output share the item embeddings. Against the
paper: rotary positions in place of learnt ones, GELU in place of ReLU, and by default a softmax over the whole catalogue in place of
binary cross-entropy with one negative (`--loss bce`), which is what makes the model strong.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.data.catalogue import Catalogue
from pipelines.models.base import products
from pipelines.models.causal import Causal
from pipelines.models.config import ModelConfig
from pipelines.models.item_models.config import SASRecConfig
from pipelines.models.nn.transformer import Encoder
from pipelines.models.objectives.losses import bce_loss, gbce_loss, sampled_loss, softmax_loss
from pipelines.models.objectives.repeat_bias import Held, held_by, with_repeats


class CausalItems(Causal):
    """One with an embedding for each item."""

    def __init__(self, config: ModelConfig, catalogue: Catalogue) -> None:
        super().__init__()
        self.config, self.items = config, catalogue.items
        self.embedding = nn.Embedding(catalogue.items, config.width)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.encoder = Encoder(config)

    def embed(self, items: Tensor) -> Tensor:
        return self.embedding(items)


class SASRec(CausalItems):
    """Scores of items are products of their embeddings with the state after the last item of the history."""

    def __init__(self, config: SASRecConfig, catalogue: Catalogue) -> None:
        super().__init__(config, catalogue)
        self.repeat_bias = nn.Parameter(torch.zeros(1)) if config.repeat_bias else None

    def make_training_batch(
        self, items: np.ndarray, rng: np.random.Generator, horizon: int = 1
    ) -> tuple[np.ndarray, ...]:
        """The items [B, n], 1 for every item that has one before it [B, n], and for `--loss bce` a negative for each [B, n]."""
        drawn = super().make_training_batch(items, rng, horizon)
        return (*drawn, strangers(items, self.items, rng)) if self.config.loss == "bce" else drawn

    def forward(self, items: np.ndarray, weights: np.ndarray, *negative: np.ndarray) -> Tensor:
        """Weighted sum of the losses of the items that have one before them; arguments as `make_training_batch` made them."""
        config = self.config
        places, weight, target, *other = self.asked(weights, items.astype(np.int64), *negative)
        states = self.before(items, places)
        if config.loss == "bce":
            return bce_loss(states, self.embedding(target), self.embedding(other[0]), weight)
        if config.loss == "gbce":
            return gbce_loss(
                states, self.embedding, self.items, target, weight, config.negatives, config.calibration
            )
        if config.negatives:
            return sampled_loss(
                states, self.embedding, self.items, target, weight, config.negatives, config.label_smoothing
            )
        held = None if self.repeat_bias is None else Held(self.history(items, places), self.repeat_bias)
        return softmax_loss(states, self.embedding.weight, target, weight, config.label_smoothing, held)

    def scores(self, history: Tensor, users: Tensor) -> Tensor:
        scores = products(self.last_states(history, history >= 0), self.embedding.weight)
        return with_repeats(scores, held_by(history, self.repeat_bias))


def strangers(items: np.ndarray, N: int, rng: np.random.Generator) -> np.ndarray:
    """An item drawn evenly for each of `items` [B, n], none that stands in the row as long as the catalogue has others; int64 [B, n]."""
    drawn = rng.integers(0, N, items.shape)
    for _ in range(100):  # a row that holds the whole catalogue has no stranger
        known = (drawn[:, :, None] == items[:, None, :]).any(2)
        if not known.any():
            break
        drawn[known] = rng.integers(0, N, int(known.sum()))
    return drawn
