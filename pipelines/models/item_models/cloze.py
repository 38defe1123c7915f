"""The base class of bidirectional transformers that predict masked item ids.

At inference a MASK follows the history. Input and output share the item embeddings.

Shapes: B sequences, n items of each, N items of the catalogue, R masked items, D width.
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.data.catalogue import Catalogue
from pipelines.models.base import Sampling, products
from pipelines.models.item_models.config import ClozeConfig
from pipelines.models.item_models.vectors import ItemVectors
from pipelines.models.nn.packing import Layout, to_device
from pipelines.models.nn.transformer import Encoder
from pipelines.models.objectives.losses import softmax_loss
from pipelines.models.objectives.masking import cut_to_next_item
from pipelines.models.objectives.repeat_bias import RepeatBias
from pipelines.models.objectives.sampling import sampled_loss


class Cloze(ItemVectors):
    """A model of masked items.

    The score of an item is the dot product of its embedding with the state of the MASK.
    """

    config: ClozeConfig

    def __init__(self, config: ClozeConfig, catalogue: Catalogue) -> None:
        super().__init__()
        self.config, self.items = config, catalogue.items
        rows = catalogue.items + 1  # the last row is MASK
        self.embedding = nn.Embedding(rows, config.width, sparse=bool(config.negatives))
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.register_buffer("unknown", None, persistent=False)
        self.encoder = Encoder(config)
        self.repeat_bias = nn.Parameter(torch.zeros(1)) if config.repeat_bias else None

    def make_training_batch(
        self, items: np.ndarray, rng: np.random.Generator, horizon: int = 1
    ) -> tuple[np.ndarray, ...]:
        """Draw a training batch.

        Returns:
            The items [B, n]; loss weights float32 [B, n], above 0 where an item is masked and else 0.
        """
        items, eligible = cut_to_next_item(items, self.config.next_item, rng)
        return items, self.mask(eligible, rng)

    @abstractmethod
    def mask(self, eligible: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw the masks of a training step.

        Args:
            eligible: bool [B, n], True where an item may be masked.
            rng: source of randomness.

        Returns:
            Loss weights float32 [B, n], above 0 where an item is masked and else 0.
        """

    def forward(self, items: np.ndarray, weights: np.ndarray) -> Tensor:
        """Compute the weighted sum of the losses of masked items; arguments from `make_training_batch`."""
        device, config = self.embedding.weight.device, self.config
        all_items, all_weights = torch.as_tensor(items), torch.as_tensor(weights)
        masked = all_weights > 0  # [B, n]
        positions = all_weights.flatten().nonzero().squeeze(1)  # [R] into B·n
        visible = to_device(torch.where(masked, self.items, all_items), device).long()
        states = self.states(visible, all_items >= 0, positions)
        target = to_device(all_items.flatten()[positions], device).long()  # [R]
        weight = to_device(all_weights.flatten()[positions], device)  # [R]
        repeat_bias = None
        if self.repeat_bias is not None:  # the history is the visible items, before and after the masked item
            rows, ends = positions // items.shape[1], torch.full_like(positions, items.shape[1])
            repeat_bias = RepeatBias.of_places(
                all_items.masked_fill(masked, -1), rows, ends, self.repeat_bias, device
            )
        if config.negatives:
            return sampled_loss(
                *(states, self.embedding, self.items, target, weight),
                *(config.negatives, config.label_smoothing, repeat_bias),
            )
        return softmax_loss(
            states, self.embedding.weight[:-1], target, weight, config.label_smoothing, repeat_bias
        )

    def states(self, visible: Tensor, real: Tensor, positions: Tensor) -> Tensor:
        """Return the states at some items.

        Args:
            visible: int64 [B, n], N where an item is masked, −1 at padding.
            real: padding mask, bool [B, n], False at padding. On the GPU it makes the host wait for the GPU;
                on the host it does not.
            positions: int64 [R], flat indices into B·n of the items, on the device of `real`.

        Returns:
            [R, D].
        """
        layout = Layout.bidirectional(real, visible.device)
        x = self.embedding(layout.pack(visible))  # [M, D]
        return self.encoder(x, layout, layout.index(to_device(positions, visible.device)))

    def scores(self, history: Tensor, users: Tensor, sampling: Sampling = Sampling()) -> Tensor:
        """Score all items; see `ItemRanker.scores`."""
        B, n = history.shape[0], history.shape[1] + 1
        last = torch.arange(B, device=history.device) * n + n - 1
        visible = F.pad(history, (0, 1), value=self.items)  # [B, n + 1]
        states = self.states(visible.clamp(min=0), visible >= 0, last)
        scores = products(states, self.embedding.weight[:-1])
        repeat_bias = RepeatBias.of(history, self.repeat_bias)
        return self.ranked(scores if repeat_bias is None else repeat_bias.add_to(scores))
