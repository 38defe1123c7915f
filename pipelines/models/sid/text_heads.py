"""Dense retrieval beside the generation of semantic IDs: items' texts go in, a text embedding comes out (paper, sections 3.3 and 4.6).

Shapes: B users, n items of a history, M fully masked items, H digits, D width, N items of the catalogue, E width of a text embedding.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.models.config import ModelConfig
from pipelines.models.nn.precision import in_float32

RANK, HIDDEN = 32, 256  # of g_θ (section 4.6)
SHARPNESS = 1 / 0.07  # what dot products are multiplied by at first


class TextHead(nn.Module):
    """A_j, the text's way in, and what the ways from states to a text embedding have in common.

    Text embeddings are data, and not stored with the weights. They are brought to unit length (zero stays zero: an item
    without text), so that encoders of any scale do alike, and plain dot products are then badly scaled: on Beauty's LSA
    embeddings a query that is the target's own text has a cross-entropy of 8.5 where knowing nothing has ln N = 9.4. Times
    `SHARPNESS` it has 2.4. So dot products are multiplied by a learnt factor that begins there.
    """

    def __init__(self, config: ModelConfig, digits: int, text: np.ndarray) -> None:
        """
        Args:
            config: sizes.
            digits: H, tokens of an item.
            text: text embeddings [N, E], zero for an item without text.
        """
        super().__init__()
        D, E = config.width, text.shape[1]
        self.register_buffer(
            "text", F.normalize(torch.as_tensor(text, dtype=torch.float32)), persistent=False
        )  # [N, E]
        self.shape = (digits, D)
        self.enter = nn.Parameter(torch.randn(E, digits * D) * D**-0.5)  # A_1 … A_H, side by side
        self.norm = nn.LayerNorm(D)
        self.sharpness = nn.Parameter(torch.tensor(math.log(SHARPNESS)))

    def inputs(self, shown: Tensor) -> Tensor:
        """What texts add to the embedded digits: A_j h_text.

        Args:
            shown: items [B, n], −1 where there is no text to see: at padding, and where any digit of the item is masked. At
                inference the text of the item that is decoded is unknown; a model that saw it in training beside half
                of the digits would read the other half off it.

        Returns:
            [B, n·H, D], zero where nothing is shown.
        """
        seen = (self.text[shown] @ self.enter).masked_fill((shown < 0)[:, :, None], 0.0)  # [B, n, H·D]
        return seen.unflatten(2, self.shape).flatten(1, 2)


class DenseHead(TextHead):
    """g_θ, from the H states of a fully masked item to a text embedding, of low rank as in the paper."""

    def __init__(self, config: ModelConfig, digits: int, text: np.ndarray) -> None:
        super().__init__(config, digits, text)
        self.leave = nn.Sequential(
            nn.Linear(math.prod(self.shape), RANK, bias=False),
            nn.Linear(RANK, HIDDEN),
            nn.GELU(),
            nn.Linear(HIDDEN, RANK, bias=False),
            nn.Linear(RANK, text.shape[1]),
        )

    def query(self, states: Tensor) -> Tensor:
        """g_θ: states [M·H, D] after η layers → float32 [M, E], to be multiplied with the text embeddings."""
        with in_float32(states.device):
            return (
                self.leave(self.norm(states.float()).view(-1, math.prod(self.shape))) * self.sharpness.exp()
            )

    def forward(self, states: Tensor, items: Tensor) -> Tensor:
        """Cross-entropy over all N items [M], given the states [M·H, D] of M items and which ones they are."""
        return F.cross_entropy((self.query(states) @ self.text.T).float(), items.long(), reduction="none")


class CosineHead(TextHead):
    """From one state to the direction of a text embedding: products with the text embeddings are cosines over a learnt temperature."""

    def __init__(self, config: ModelConfig, digits: int, text: np.ndarray) -> None:
        super().__init__(config, digits, text)
        self.leave = nn.Linear(config.width, text.shape[1], bias=False)

    def query(self, states: Tensor) -> Tensor:
        """States [M, D] → float32 [M, E]."""
        with in_float32(states.device):
            return F.normalize(self.leave(self.norm(states.float()))) * self.sharpness.exp()


def dense_weights(weights: np.ndarray) -> np.ndarray:
    """What the dense loss of each fully masked item counts, 0 for other items.

    The training loop divides a step's summed losses by its summed `weights`; with these the dense part becomes the mean
    over the step's fully masked items, however the step is cut.

    Args:
        weights: of the digits of one whole optimiser step, [B, n, H], 0 where visible.

    Returns:
        float32 [B, n].
    """
    whole = (weights > 0).all(2)
    return whole.astype(np.float32) * np.float32(weights.sum(dtype=np.float64) / max(1, whole.sum()))
