"""A batch of sequences with masked digits, and the objectives that can be trained on it.

Shapes: B sequences, n items of each, H digits per item, P tokens per item, M tokens with a masked digit, D
width."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from pipelines.models.denoiser import Denoiser
from pipelines.models.nn.packing import to_device
from pipelines.models.objectives.soft_targets import SoftTargets


@dataclass(frozen=True, eq=False)
class MaskedBatch:
    """Sequences with masked digits.

    The host decides all shapes, so that no computation waits for a GPU: tensors lie on the host where nothing
    else is said.

    Attributes:
        items: int64 [B, n], −1 at padding.
        weights: loss weights of the digits, float32 [B·n, H], 0 where a digit is visible.
        tokens_per_item: P.
        device: device of the model.
        soft: soft targets of the items; None for none.
    """

    items: Tensor
    weights: Tensor
    tokens_per_item: int
    device: torch.device
    soft: SoftTargets | None = None

    @staticmethod
    def of(
        items: np.ndarray,
        weights: np.ndarray,
        tokens_per_item: int,
        device: torch.device,
        soft: SoftTargets | None = None,
    ) -> MaskedBatch:
        """Build the batch from arrays [B, n] and [B, n, H] as `MaskGR.make_training_batch` returns them."""
        flat = torch.as_tensor(weights).flatten(0, 1)
        return MaskedBatch(torch.as_tensor(items), flat, tokens_per_item, device, soft)

    @cached_property
    def masked(self) -> Tensor:
        """Mask of the digits, bool [B·n, H]."""
        return self.weights > 0

    @cached_property
    def tokens(self) -> Tensor:
        """Flat indices, into B·n·P, of the tokens with a masked digit, int64 [M]."""
        (rows, H), P = self.masked.shape, self.tokens_per_item
        return self.masked.view(rows * P, H // P).any(1).nonzero().squeeze(1)

    @cached_property
    def items_on_device(self) -> Tensor:
        """Items on the device of the model, int64 [B, n]."""
        return to_device(self.items, self.device).long()


class Objective(Protocol):
    """The training loss of masked digits, and the denoiser that belongs to it."""

    def weights_changed(self) -> None:
        """Forget what was computed from earlier weights."""
        ...

    def loss(self, hidden: Tensor, batch: MaskedBatch) -> Tensor:
        """Compute the weighted sum of the losses, a float32 scalar, from the states [M, D] of the tokens with
        a masked digit.
        """
        ...

    def denoiser(self, states: Callable[[Tensor], Tensor], history: Tensor) -> Denoiser:
        """Return the denoiser.

        Args:
            states: the transformer: codes [B, K, S] → states [B, K, k·P, D].
            history: int64 [B, n], −1 at padding; the states depend on the histories already.
        """
        ...
