"""Digits independent of each other given what is visible, as in the paper: each masked one has a softmax over its V codes.

Shapes: M states, Q masked digits, R tokens, H digits an item, P tokens an item, V codes, N items, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.models.nn.precision import in_float32


class DigitHeads(nn.Module):
    """For each digit a linear map from states to logits, in float32 in any precision: of bfloat16 logits many tie."""

    def __init__(self, digits: int, width: int, codes: int, smoothing: float = 0.0) -> None:
        """
        Args:
            digits: H.
            width: D.
            codes: V.
            smoothing: share of a target that the loss spreads over all codes (Szegedy et al. 2016).
        """
        super().__init__()
        self.smoothing = smoothing
        self.weight = nn.Parameter(torch.randn(digits, width, codes) * width**-0.5)  # [H, D, V]

    def loss(self, states: Tensor, codes: Tensor, weights: Tensor, counts: list[int]) -> Tensor:
        """Weighted sum of the masked digits' cross-entropies, one matrix product a digit.

        Args:
            states: [Q, D], those of the first digit first, then those of the second, …
            codes: the true ones, [Q].
            weights: [Q].
            counts: how many there are of each of the H digits.
        """
        loss = states.new_zeros((), dtype=torch.float32)
        parts = (part.split(counts) for part in (states, codes, weights))
        for digit, (z, code, weight) in enumerate(zip(*parts, strict=True)):
            loss = (
                loss
                + F.cross_entropy(
                    self.logits(z, digit), code, reduction="none", label_smoothing=self.smoothing
                )
                @ weight
            )
        return loss

    def logits(self, states: Tensor, digit: int) -> Tensor:
        """States [..., D] → float32 logits of one digit, [..., V]."""
        with in_float32(states.device):
            return states.float() @ self.weight[digit]

    def forward(self, states: Tensor) -> Tensor:
        """States [R, P, D] of items → float32 log-probabilities [R, H, V]."""
        rows = states.expand(-1, len(self.weight), -1)  # an item's only state serves all its digits
        with in_float32(states.device):
            return torch.einsum("rhd,hdv->rhv", rows.float(), self.weight).log_softmax(-1)


def of_items(logp: Tensor, sids: Tensor) -> Tensor:
    """Log-probabilities [B, H, V] of digits → those of the items with these semantic IDs [N, H], their sums: float32 [B, N]."""
    found = logp[:, 0].index_select(1, sids[:, 0])
    for h in range(1, sids.shape[1]):
        found += logp[:, h].index_select(1, sids[:, h])
    return found
