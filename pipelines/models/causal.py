"""The base class of causal models over items.

Every item of a sequence is predicted from the items before it, in one pass.

Shapes: B sequences, n items of each, R targets, D width, M packed tokens (real items).
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.models.base import ItemRanker
from pipelines.models.denoiser import ItemScores
from pipelines.models.nn.packing import Layout, to_device
from pipelines.models.objectives.repeat_bias import items_before


class Causal(ItemRanker):
    """A model with a causal encoder whose state at an item predicts the next item.

    Attributes:
        encoder: the encoder: embeddings of packed tokens, their layout and the tokens to return → states.
    """

    encoder: nn.Module

    @abstractmethod
    def embed(self, items: Tensor) -> Tensor:
        """Embed items for the encoder: int64 [M] → [M, D]."""

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return next(self.parameters()).device

    def make_training_batch(
        self, items: np.ndarray, rng: np.random.Generator, horizon: int = 1
    ) -> tuple[np.ndarray, ...]:
        """Draw a training batch.

        Returns:
            The items [B, n]; loss weights float32 [B, n], 1 for every item that has an item before it.
        """
        weights = np.zeros(items.shape, np.float32)
        weights[:, 1:] = items[:, :-1] >= 0
        return items, weights

    def targets(self, weights: np.ndarray, *arrays: np.ndarray) -> tuple[Tensor, ...]:
        """Select the targets, which are the items with a loss weight above 0.

        Args:
            weights: loss weights [B, n].
            *arrays: further arrays [B, n].

        Returns:
            The positions of the items before the targets, flat indices [R] into B·(n − 1), on the host; and
            the entries of `weights` and of each array at the targets, [R] each, on the device.
        """
        positions = torch.as_tensor(weights[:, 1:]).flatten().nonzero().squeeze(1)
        return positions, *(
            to_device(torch.as_tensor(array[:, 1:]).flatten()[positions], self.device)
            for array in (weights, *arrays)
        )

    def states_before(self, items: np.ndarray, positions: Tensor) -> Tensor:
        """Return the states that predict the targets.

        Args:
            items: the sequences, int [B, n].
            positions: positions of the items before the targets, int64 [R], from `targets`.

        Returns:
            [R, D].
        """
        history = torch.as_tensor(items[:, :-1])
        return self.states(to_device(history, self.device).long(), history >= 0, positions)

    def histories_before(self, items: np.ndarray, positions: Tensor) -> Tensor:
        """Return the items before each target: int64 [R, n − 1], −1 after them; see `states_before`."""
        n = items.shape[1] - 1
        history = items_before(torch.as_tensor(items[:, :-1]), positions // n, positions % n + 1)
        return to_device(history, self.device)

    def states(self, history: Tensor, real: Tensor, positions: Tensor) -> Tensor:
        """Return the states at some items of histories; each predicts the item after it.

        Args:
            history: int64 [B, n], −1 at padding.
            real: padding mask, bool [B, n], False at padding. On the GPU it makes the host wait for the GPU;
                on the host it does not.
            positions: int64 [R], flat indices into B·n of the items, on the device of `real`.

        Returns:
            [R, D].
        """
        layout = Layout.causal(real, 1, history.device)
        x = self.embed(layout.pack(history))  # [M, D]
        states: Tensor = self.encoder(x, layout, layout.index(to_device(positions, history.device)))
        return states

    def scores_within(self, sequences: Tensor) -> ItemScores | None:
        """Score all items at many places of sequences in one pass; see `ItemRanker.scores_within`."""
        weights = np.zeros(sequences.shape, np.float32)
        weights[:, 1:] = sequences[:, :-1] >= 0
        positions, _ = self.targets(weights)
        items = sequences.numpy()
        return self.scores_of(self.states_before(items, positions), self.histories_before(items, positions))

    def scores_of(self, states: Tensor, history: Tensor) -> ItemScores | None:
        """Score items from the states after histories.

        Args:
            states: [R, D].
            history: int64 [R, n], −1 for none.

        Returns:
            Scores of R rows; None if a state alone does not give them.
        """
        return None

    def last_states(self, history: Tensor, real: Tensor) -> Tensor:
        """Return the states after whole histories [B, n], with the padding mask `real` [B, n]: [B, D]."""
        B, n = history.shape
        last = torch.arange(B, device=real.device) * n + n - 1
        return self.states(history.clamp(min=0), real, last)
