"""What causal models over items share: every item of a sequence is predicted from those before it, in one pass.

Shapes: B sequences, n items of each, R targets, D width, T real items.
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
import torch
from torch import Tensor

from pipelines.models.base import ItemRanker
from pipelines.models.nn.packing import Layout, to_device
from pipelines.models.objectives.repeat_bias import items_before


class Causal(ItemRanker):
    """A model with an `embedding` and an `encoder` whose states after an item say what comes next."""

    @abstractmethod
    def embed(self, items: Tensor) -> Tensor:
        """Items [T] as they enter the encoder, [T, D]."""

    def make_training_batch(
        self, items: np.ndarray, rng: np.random.Generator, horizon: int = 1
    ) -> tuple[np.ndarray, ...]:
        """The items [B, n], and 1 for every item that has one before it [B, n]."""
        weights = np.zeros(items.shape, np.float32)
        weights[:, 1:] = items[:, :-1] >= 0
        return items, weights

    def asked(self, weights: np.ndarray, *drawn: np.ndarray) -> tuple[Tensor, ...]:
        """The places [R] into B·(n − 1) of what comes before a target, on the host; and what was drawn [B, n] for the targets, [R] each."""
        counted = torch.as_tensor(weights[:, 1:]).flatten()
        places, device = counted.nonzero().squeeze(1), self.embedding.weight.device
        return places, *(
            to_device(torch.as_tensor(array[:, 1:]).flatten()[places], device) for array in (weights, *drawn)
        )

    def before(self, items: np.ndarray, places: Tensor) -> Tensor:
        """What is expected at the targets of sequences [B, n], given what comes before them; `places` as `asked` has them; [R, D]."""
        history = torch.as_tensor(items[:, :-1])
        return self.states(to_device(history, self.embedding.weight.device).long(), history >= 0, places)

    def history(self, items: np.ndarray, places: Tensor) -> Tensor:
        """The items of sequences [B, n] before the targets, arguments as of `before`; int64 [R, n − 1], −1 after them."""
        n = items.shape[1] - 1
        return to_device(
            items_before(torch.as_tensor(items[:, :-1]), places // n, places % n + 1),
            self.embedding.weight.device,
        )

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
        return self.encoder(
            self.embed(layout.pack(history)), layout, layout.index(to_device(asked, history.device))
        )

    def last_states(self, history: Tensor, real: Tensor) -> Tensor:
        """What is expected after whole histories [B, n], `real` as for `states`: [B, D]."""
        B, n = history.shape
        return self.states(history, real, torch.arange(n - 1, B * n, n, device=real.device))
