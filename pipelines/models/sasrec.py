"""SASRec: a causal transformer over item ids (Kang and McAuley 2018, arXiv 1808.09781).

Every item of a sequence is predicted from those before it, in one pass. Input and output share the item embeddings. Against the
paper: rotary positions in place of learnt ones, GELU in place of ReLU, and by default a softmax over the whole catalogue in place of
binary cross-entropy with one negative (`--loss bce`), which is what makes the model strong.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.models.catalogue import Catalogue
from pipelines.models.config import SASRecConfig
from pipelines.models.interface import ItemRanker, products
from pipelines.models.layout import Layout, put
from pipelines.models.losses import bce_loss, gbce_loss, sampled_loss, softmax_loss
from pipelines.models.transformer import Encoder


class SASRec(ItemRanker):
    """Scores of items are products of their embeddings with the state after the last item of the history."""

    def __init__(self, config: SASRecConfig, catalogue: Catalogue) -> None:
        super().__init__()
        self.config, self.items = config, catalogue.items
        self.embedding = nn.Embedding(catalogue.items, config.width)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.encoder = Encoder(config)

    def draw(self, items: np.ndarray, rng: np.random.Generator, ahead: int = 1) -> tuple[np.ndarray, ...]:
        """The items [B, n], 1 for every item that has one before it [B, n], and for `--loss bce` a negative for each [B, n]."""
        weights = np.zeros(items.shape, np.float32)
        weights[:, 1:] = items[:, :-1] >= 0
        if self.config.loss != "bce":
            return items, weights
        return items, weights, strangers(items, self.items, rng)

    def forward(self, items: np.ndarray, weights: np.ndarray, negative: np.ndarray | None = None) -> Tensor:
        device, config = self.embedding.weight.device, self.config
        history, counted = torch.as_tensor(items[:, :-1]), torch.as_tensor(weights[:, 1:])  # what comes before, and the targets
        asked = counted.flatten().nonzero().squeeze(1)  # [R] into B·(n − 1)
        states = self.states(put(history, device).long(), history >= 0, asked)
        target = put(torch.as_tensor(items[:, 1:]).flatten()[asked], device).long()
        weight = put(counted.flatten()[asked], device)
        if config.loss == "bce":
            other = put(torch.as_tensor(negative[:, 1:]).flatten()[asked], device).long()
            return bce_loss(states, self.embedding(target), self.embedding(other), weight)
        if config.loss == "gbce":
            return gbce_loss(states, self.embedding, self.items, target, weight, config.negatives, config.calibration)
        if config.negatives:
            return sampled_loss(states, self.embedding, self.items, target, weight, config.negatives, config.label_smoothing)
        return softmax_loss(states, self.embedding.weight, target, weight, config.label_smoothing)

    def states(self, history: Tensor, real: Tensor, asked: Tensor) -> Tensor:
        """What is expected after some items of histories.

        Args:
            history: int64 [B, n], −1 at padding.
            real: bool [B, n], where there is no padding; on the host where a GPU shall not be waited for.
            asked: int64 [R], those items, into B·n; where `real` is.

        Returns:
            [R, D].
        """
        layout = Layout.causal(real, 1, history.device)
        return self.encoder(self.embedding(layout.flat(history)), layout, layout.index(put(asked, history.device)))

    def scores(self, history: Tensor, users: Tensor) -> Tensor:
        B, n = history.shape
        last = torch.arange(n - 1, B * n, n, device=history.device)
        return products(self.states(history, history >= 0, last), self.embedding.weight)


def strangers(items: np.ndarray, N: int, rng: np.random.Generator) -> np.ndarray:
    """An item drawn evenly for each of `items` [B, n], none that stands in the row as long as the catalogue has others; int64 [B, n]."""
    drawn = rng.integers(0, N, items.shape)
    for _ in range(100):  # a row that holds the whole catalogue has no stranger
        known = (drawn[:, :, None] == items[:, None, :]).any(2)
        if not known.any():
            break
        drawn[known] = rng.integers(0, N, int(known.sum()))
    return drawn
