"""The two kinds of attention of MaskGR: what a token sees, and so what training can predict in one pass.

Shapes: B sequences, n items of each, H digits per item, P tokens per item, M packed tokens, R tokens, D
width."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.models.nn.packing import Layout
from pipelines.models.objectives.masking import cut_to_next_item, sample_item_masks, sample_masks
from pipelines.models.sid_models.config import MaskGRConfig


class FullAttention(nn.Module):
    """Attention of the paper: every token sees every other token, so a history's states depend on the masks
    after it.

    Attributes:
        streams: number of times that a training sequence goes through the transformer.
        caches_history: if true, a history can be encoded once for all its beams, exactly.
    """

    streams: int = 1
    caches_history: bool = False

    def sample(
        self,
        items: np.ndarray,
        digits: int,
        rng: np.random.Generator,
        config: MaskGRConfig,
        whole_item: float,
        horizon: int,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw the masks of a training step.

        Args:
            items: int [B, n], −1 at padding.
            digits: H.
            rng: source of randomness.
            config: of the model.
            whole_item: share of the sequences (prefix attention: of the items) whose items are masked fully.
            horizon: k.

        Returns:
            The items, some sequences cut to a next-item example; and loss weights float32 [B, n, H], 0 where
            a digit is visible.
        """
        items, eligible = cut_to_next_item(items, config.next_item, rng, horizon)
        eligible = np.broadcast_to(eligible[:, :, None], (*items.shape, digits))
        return items, sample_masks(eligible, rng, whole_item)[1]

    def sees_later(self, items: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return True for each item of a training batch that sees a digit of a later item, bool [B, n].

        Args:
            items: int [B, n], −1 at padding.
            weights: loss weights, [B, n, H], 0 where a digit is visible.
        """
        visible = (weights == 0).any(2) & (items >= 0)  # [B, n]
        later = np.zeros_like(visible)
        later[:, :-1] = np.maximum.accumulate(visible[:, :0:-1], axis=1)[:, ::-1]
        return later

    def streams_of(
        self, clean: Tensor, noisy: Tensor, items: Tensor, visible: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Arrange a training batch in streams.

        Args:
            clean: tokens of the digits, int64 [B, n, H].
            noisy: the same with masks.
            items: int64 [B, n].
            visible: the same, −1 where a digit is masked.

        Returns:
            Tokens [B, n', H] and items [B, n'] that enter the transformer.
        """
        return noisy, visible

    def training_layout(self, real: Tensor, tokens_per_item: int, device: torch.device) -> Layout:
        """Build the layout of a training batch from the padding mask [B, n·P] of its tokens."""
        return Layout.bidirectional(real, device)

    def training_index(self, tokens: Tensor, length: int) -> Tensor:
        """Return the flat indices of predicted tokens among all streams, from those into B·`length`."""
        return tokens

    def add_previous(self, x: Tensor, layout: Layout, tokens_per_item: int) -> Tensor:
        """Add to the packed tokens [M, D] of a training batch what they receive from the previous item."""
        return x

    def history_layout(self, real: Tensor, tokens_per_item: int) -> Layout:
        """Build the layout of histories from the padding mask [B, n·P] of their tokens."""
        return Layout.bidirectional(real)

    def contribution(self, last: Tensor) -> Tensor:
        """Return the contribution of the last item, with tokens [B, P, D], to the tokens of the next one: [B,
        1, D].
        """
        return torch.zeros_like(last.sum(1, keepdim=True))


class PrefixAttention(FullAttention):
    """Attention of ours: an item sees itself and the clean items before it.

    Training predicts every item of a sequence from its clean past in one pass over two streams, as block
    diffusion does (Arriola et al. 2025); decoding encodes a history once. A masked item receives a linear map
    of the item before it."""

    streams = 2
    caches_history = True

    def __init__(self, width: int) -> None:
        super().__init__()
        self.previous = nn.Linear(width, width, bias=False)
        nn.init.eye_(self.previous.weight)

    def sample(
        self,
        items: np.ndarray,
        digits: int,
        rng: np.random.Generator,
        config: MaskGRConfig,
        whole_item: float,
        horizon: int,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw the masks of a training step, with a masking rate per item; see `FullAttention.sample`."""
        return items, sample_item_masks(items, digits, rng, whole_item)[1]

    def sees_later(self, items: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return np.zeros(items.shape, bool)

    def streams_of(
        self, clean: Tensor, noisy: Tensor, items: Tensor, visible: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the clean stream and then the noisy one, whose items bring nothing but their digits."""
        return torch.cat((clean, noisy), dim=1), torch.cat((items, torch.full_like(items, -1)), dim=1)

    def training_layout(self, real: Tensor, tokens_per_item: int, device: torch.device) -> Layout:
        return Layout.two_streams(real, tokens_per_item, device)

    def training_index(self, tokens: Tensor, length: int) -> Tensor:
        return tokens + (tokens // length + 1) * length  # in the second stream

    def add_previous(self, x: Tensor, layout: Layout, tokens_per_item: int) -> Tensor:
        """Add to each item of the noisy stream the contribution of the clean item before it."""
        streams = layout.pad(self.previous(x)).unflatten(1, (2, -1, tokens_per_item))  # [B, 2, n, P, D]
        clean = streams[:, 0].sum(2)  # [B, n, D]
        shifted = F.pad(clean[:, :-1], (0, 0, 1, 0)).repeat_interleave(tokens_per_item, dim=1)  # [B, n·P, D]
        return x + layout.pack(torch.cat((torch.zeros_like(shifted), shifted), dim=1))

    def history_layout(self, real: Tensor, tokens_per_item: int) -> Layout:
        return Layout.causal(real, tokens_per_item)

    def contribution(self, last: Tensor) -> Tensor:
        contribution: Tensor = self.previous(last.sum(1, keepdim=True))
        return contribution
