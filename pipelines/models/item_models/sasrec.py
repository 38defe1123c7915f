"""SASRec: a causal transformer over item ids (Kang and McAuley 2018, arXiv 1808.09781).

Every item of a sequence is predicted from the items before it, in one pass. Input and output share the item
embeddings. Differences to the paper: rotary positions instead of learned positions, GELU instead of ReLU, and
by default a softmax over the whole catalogue instead of binary cross-entropy with one negative (`--loss
bce`), which makes the model strong.

Shapes: B sequences, n items of each, N items of the catalogue, D width, M packed tokens.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.data.catalogue import Catalogue
from pipelines.models.base import Sampling, products
from pipelines.models.causal import Causal
from pipelines.models.config import ModelConfig
from pipelines.models.denoiser import ItemScores
from pipelines.models.item_models.config import SASRecConfig
from pipelines.models.item_models.vectors import ItemVectors
from pipelines.models.nn.transformer import Encoder
from pipelines.models.objectives.losses import bce_loss, softmax_loss
from pipelines.models.objectives.repeat_bias import RepeatBias
from pipelines.models.objectives.sampling import gbce_loss, sampled_loss


class CausalItems(ItemVectors, Causal):
    """A causal model with an embedding for each item."""

    def __init__(self, config: ModelConfig, catalogue: Catalogue, *, sparse: bool = False) -> None:
        """
        Args:
            config: configuration of the model.
            catalogue: the catalogue.
            sparse: if true, training looks up some items alone, and the others have no gradient.
        """
        super().__init__()
        self.config, self.items = config, catalogue.items
        self.embedding = nn.Embedding(catalogue.items, config.width, sparse=sparse)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.register_buffer("unknown", None, persistent=False)
        self.encoder = self.make_encoder(config)

    def make_encoder(self, config: ModelConfig) -> nn.Module:
        """Return a new encoder; see `Causal`."""
        return Encoder(config)

    def embed(self, items: Tensor) -> Tensor:
        """Embed items [M]: [M, D]."""
        return self.embedding(items)


class SASRec(CausalItems):
    """Causal transformer over item ids.

    The score of an item is the dot product of its embedding with the state at the last item of the history.
    """

    config: SASRecConfig

    def __init__(self, config: SASRecConfig, catalogue: Catalogue, *, sparse: bool = True) -> None:
        super().__init__(config, catalogue, sparse=sparse and bool(config.negatives))
        self.repeat_bias = nn.Parameter(torch.zeros(1)) if config.repeat_bias else None

    def make_training_batch(
        self, items: np.ndarray, rng: np.random.Generator, horizon: int = 1
    ) -> tuple[np.ndarray, ...]:
        """Draw a training batch.

        Returns:
            The items [B, n]; loss weights [B, n], 1 for every item that has an item before it; with `--loss
            bce` a negative for each item, int64 [B, n].
        """
        batch = super().make_training_batch(items, rng, horizon)
        return (*batch, sample_negatives(items, self.items, rng)) if self.config.loss == "bce" else batch

    def forward(self, items: np.ndarray, weights: np.ndarray, *negative: np.ndarray) -> Tensor:
        """Compute the weighted sum of the losses of the targets; arguments from `make_training_batch`."""
        config = self.config
        positions, weight, target, *other = self.targets(weights, items.astype(np.int64), *negative)
        states = self.states_before(items, positions)  # [R, D]
        if config.loss == "bce":
            return bce_loss(states, self.embedding(target), self.embedding(other[0]), weight)
        if config.loss == "gbce":
            return gbce_loss(
                states, self.embedding, self.items, target, weight, config.negatives, config.calibration
            )
        repeat_bias = None
        if self.repeat_bias is not None:
            history, n = torch.as_tensor(items[:, :-1]), items.shape[1] - 1
            repeat_bias = RepeatBias.of_places(
                history, positions // n, positions % n + 1, self.repeat_bias, self.device
            )
        if config.negatives:
            return sampled_loss(
                *(states, self.embedding, self.items, target, weight),
                *(config.negatives, config.label_smoothing, repeat_bias),
            )
        return softmax_loss(
            states, self.embedding.weight, target, weight, config.label_smoothing, repeat_bias
        )

    def scores(self, history: Tensor, users: Tensor, sampling: Sampling = Sampling()) -> Tensor:
        """Score all items; see `ItemRanker.scores`."""
        return self.scores_of(self.last_states(history, history >= 0), history).of(slice(None))

    def scores_of(self, states: Tensor, history: Tensor) -> ItemScores:
        """Score items from the states after histories; see `Causal.scores_of`."""
        repeat_bias = RepeatBias.of(history, self.repeat_bias)

        def of(items: slice | Tensor) -> Tensor:
            scores = products(states, self.embedding.weight[items])
            return self.ranked(
                scores if repeat_bias is None else repeat_bias.add_to_part(scores, items), items
            )

        return ItemScores(of, are_logits=True)


def sample_negatives(items: np.ndarray, N: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a negative for each item, uniformly from the items that are not in its sequence.

    Args:
        items: int [B, n], −1 at padding.
        N: number of items of the catalogue.
        rng: source of randomness.

    Returns:
        int64 [B, n]. If a sequence holds the whole catalogue, its negatives are items of the sequence.
    """
    negatives = rng.integers(0, N, items.shape)
    for _ in range(100):  # bounded, because a sequence that holds the whole catalogue has no negatives
        known = (negatives[:, :, None] == items[:, None, :]).any(2)
        if not known.any():
            break
        negatives[known] = rng.integers(0, N, int(known.sum()))
    return negatives
