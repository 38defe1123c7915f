"""Heads for dense retrieval beside the generation of semantic IDs: they add items' text embeddings to the
input, and predict the text embedding of the next item (paper, sections 3.3 and 4.6).

Shapes: B users, n items of a history, M fully masked items, H digits per item, D width, N items, E width of
text embeddings."""

from __future__ import annotations

import math
from abc import abstractmethod

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.models.config import ModelConfig
from pipelines.models.nn.precision import in_float32

RANK, HIDDEN = 32, 256  # of g_θ (section 4.6)
SHARPNESS = 1 / 0.07  # initial scale of dot products
ENTER = 0.1  # initial scale of A_j with learned vectors: texts do not outweigh the embeddings of items


class TextHead(nn.Module):
    """The projection A_j of text embeddings to the input, and the common part of the heads that predict a
    text embedding.

    Text embeddings are data and are not stored with the weights. They are scaled to unit length (zero stays
    zero: an item without text), so that the scale of the text encoder makes no difference. Plain dot products
    of unit vectors are badly scaled for a softmax: on Beauty's LSA embeddings a query that equals the
    target's text embedding has a cross-entropy of 8.5, where a uniform distribution has ln N = 9.4. With dot
    products multiplied by `SHARPNESS` it is 2.4. So dot products with text embeddings are multiplied by a
    learned factor that is initialized to `SHARPNESS`; a parameter of the heads holds its logarithm.

    Attributes:
        text: unit-length text embeddings, float32 [N, E].
    """

    text: Tensor

    def __init__(self, config: ModelConfig, digits: int, text: np.ndarray) -> None:
        """
        Args:
            config: sizes of the model.
            digits: H.
            text: text embeddings, [N, E]; zero for an item without text.
        """
        super().__init__()
        D, E = config.width, text.shape[1]
        embeddings = F.normalize(torch.as_tensor(text, dtype=torch.float32))  # [N, E]
        self.register_buffer("text", embeddings, persistent=False)
        self.shape = (digits, D)
        self.enter = nn.Parameter(torch.randn(E, digits * D) * D**-0.5)  # A_1 … A_H, side by side
        self.norm = nn.LayerNorm(D)

    @property
    def vectors(self) -> Tensor:
        """What queries are multiplied with: the text embeddings, [N, E]."""
        return self.text

    def inputs(self, visible: Tensor) -> Tensor:
        """Return A_j h_text, which is added to the digits' embeddings.

        Args:
            visible: items whose text is visible, int64 [B, n]; −1 at padding and where any digit of the item
                is masked. At inference the text of the predicted item is unknown. A model that saw this text
                in training beside half of the digits would infer the other half from it.

        Returns:
            [B, n·H, D], zero where no text is visible.
        """
        projected = self.text[visible] @ self.enter  # [B, n, H·D]
        projected = projected.masked_fill((visible < 0)[:, :, None], 0.0)
        return projected.unflatten(2, self.shape).flatten(1, 2)

    @abstractmethod
    def query(self, states: Tensor) -> Tensor:
        """Predict what `vectors` are multiplied with: states [M·H, D] → float32 [M, E]."""


class DenseHead(TextHead):
    """g_θ: low-rank layers from the H states of a fully masked item to a text embedding, as in the paper."""

    def __init__(self, config: ModelConfig, digits: int, text: np.ndarray) -> None:
        super().__init__(config, digits, text)
        self.sharpness = sharpness()
        self.leave = nn.Sequential(
            nn.Linear(math.prod(self.shape), RANK, bias=False),
            nn.Linear(RANK, HIDDEN),
            nn.GELU(),
            nn.Linear(HIDDEN, RANK, bias=False),
            nn.Linear(RANK, text.shape[1]),
        )

    def query(self, states: Tensor) -> Tensor:
        """Predict text embeddings, scaled: states [M·H, D] after η layers → float32 [M, E]."""
        with in_float32(states.device):
            flat = self.norm(states.float()).view(-1, math.prod(self.shape))  # [M, H·D]
            queries: Tensor = self.leave(flat) * self.sharpness.exp()
            return queries


class LearnedHead(TextHead):
    """A linear layer from the H states of a fully masked item to a query of width D, and a learned function,
    with one hidden layer, from texts to the vectors that it is multiplied with: two towers (Yi et al., RecSys
    2019), of which the second sees texts alone.

    A variant of ours. Text embeddings tell texts apart, and not the items that follow each other: queries
    made of the same states find fewer items by fixed text embeddings (docs/training.md, "Dense retrieval").
    """

    def __init__(self, config: ModelConfig, digits: int, text: np.ndarray) -> None:
        super().__init__(config, digits, text)
        E = text.shape[1]
        self.enter.data *= ENTER
        self.scale = E**0.5  # unit vectors of width E have a mean square of 1 / E
        self.leave = nn.Linear(math.prod(self.shape), config.width, bias=False)
        self.texts = nn.Sequential(nn.Linear(E, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, config.width))
        self._vectors: Tensor | None = None

    @property
    def vectors(self) -> Tensor:
        """Vectors of all items, [N, D], kept in float32 while decoding, as dense scores are."""
        if self.training or torch.is_grad_enabled():
            return self.texts(self.text * self.scale)
        if self._vectors is None:
            with in_float32(self.text.device):
                self._vectors = self.texts(self.text * self.scale)
        return self._vectors

    def train(self, mode: bool = True) -> LearnedHead:
        """Set training mode; forget the vectors of earlier weights."""
        self._vectors = None
        return super().train(mode)

    def query(self, states: Tensor) -> Tensor:
        """Compute queries: states [M·H, D] after η layers → float32 [M, D]."""
        with in_float32(states.device):
            queries: Tensor = self.leave(self.norm(states.float()).view(-1, math.prod(self.shape)))
            return queries


class CosineHead(TextHead):
    """A linear layer from one state to the direction of a text embedding: dot products with text embeddings
    are cosines divided by a learned temperature.
    """

    def __init__(self, config: ModelConfig, digits: int, text: np.ndarray) -> None:
        super().__init__(config, digits, text)
        self.sharpness = sharpness()
        self.leave = nn.Linear(config.width, text.shape[1], bias=False)

    def query(self, states: Tensor) -> Tensor:
        """Predict directions, scaled: states [M, D] → float32 [M, E]."""
        with in_float32(states.device):
            return F.normalize(self.leave(self.norm(states.float()))) * self.sharpness.exp()


def sharpness() -> nn.Parameter:
    """Return the logarithm of the factor of dot products with text embeddings, at its initial value."""
    return nn.Parameter(torch.tensor(math.log(SHARPNESS)))


def dense_weights(weights: np.ndarray) -> np.ndarray:
    """Return the weight of each fully masked item in the dense loss, 0 for other items.

    The training loop divides a step's summed losses by its summed `weights`. With these values the dense part
    becomes the mean over the step's fully masked items, however the step is split.

    Args:
        weights: weights of the digits of one whole optimizer step, [B, n, H], 0 where visible.

    Returns:
        float32 [B, n].
    """
    fully = (weights > 0).all(2)
    return fully.astype(np.float32) * np.float32(weights.sum(dtype=np.float64) / max(1, fully.sum()))
