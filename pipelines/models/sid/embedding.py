"""Embeddings of the codes of semantic IDs.

Shapes: N items, H digits per item, V codes per digit, E width of text embeddings, D width.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.models.nn.packing import keeps_padding


class SidEmbedding(nn.Embedding):
    """Embedding of the tokens of semantic IDs: H·V codes, then a MASK for each digit, then special tokens.

    Code c of digit h is token h·V + c; digit h is masked by token H·V + h, where the model masks digits; the
    special tokens follow. The semantic IDs are data and not stored with the weights.

    Attributes:
        sids: semantic IDs of the catalogue, int16 [N, H], or int32 for more than 32,767 codes.
        offsets: h·V for each digit, int64 [H].
        mask_tokens: int64 [H]; empty where the model masks no digits.
        first_special: number of the first special token.
    """

    sids: Tensor
    offsets: Tensor
    mask_tokens: Tensor

    def __init__(
        self, sids: np.ndarray, codes: int, width: int, *, masks: bool = False, specials: int = 0
    ) -> None:
        """
        Args:
            sids: int [N, H], codes from 0 to V − 1.
            codes: V.
            width: D.
            masks: if true, each digit has a MASK.
            specials: number of special tokens.
        """
        H = sids.shape[1]
        self.first_special = H * codes + H * masks
        super().__init__(self.first_special + specials, width)
        self.digits, self.codes = H, codes
        digits = torch.arange(H)
        dtype = torch.int16 if codes <= torch.iinfo(torch.int16).max else torch.int32
        self.register_buffer("sids", torch.as_tensor(sids, dtype=dtype), persistent=False)
        self.register_buffer("offsets", digits * codes, persistent=False)
        self.register_buffer("mask_tokens", H * codes + digits[: H * masks], persistent=False)

    def initialize(self) -> None:
        """Draw all embeddings from a normal distribution with standard deviation D^−0.5."""
        nn.init.normal_(self.weight, std=self.embedding_dim**-0.5)

    def tokens(self, codes: Tensor) -> Tensor:
        """Return the tokens of codes [..., H], V where a digit is masked."""
        tokens = codes + self.offsets
        return torch.where(codes == self.codes, self.mask_tokens, tokens) if len(self.mask_tokens) else tokens

    def sids_of(self, items: Tensor) -> Tensor:
        """Return the semantic IDs of items [...], int64 [..., H]."""
        return self.sids[items].long()

    def item_tokens(self, items: Tensor, padding: int | None = None) -> Tensor:
        """Return the tokens of items [...], int64 [..., H]; for item −1 the token `padding`, by default the
        last item's.
        """
        tokens = self.sids_of(items) + self.offsets
        return tokens if padding is None else tokens.masked_fill((items < 0)[..., None], padding)

    def item_vectors(self) -> Tensor:
        """Return the sum of the digit embeddings of each item, [N, D]."""
        return self.pooled(self.item_tokens(torch.arange(len(self.sids), device=self.weight.device)))

    def pooled(self, tokens: Tensor, mode: str = "sum") -> Tensor:
        """Embed tokens [..., J] and reduce over J: the sum or the mean of the embeddings, [..., D]."""
        if tokens.shape[-1] == 1:
            return self(tokens.squeeze(-1))
        if keeps_padding():  # in a graph, an embedding bag is a loop over tokens
            vectors = self(tokens)
            return vectors.sum(-2) if mode == "sum" else vectors.mean(-2)
        return F.embedding_bag(tokens.flatten(0, -2), self.weight, mode=mode).unflatten(0, tokens.shape[:-1])


def digit_centroids(sids: np.ndarray, codes: int, text: np.ndarray, width: int) -> np.ndarray:
    """Compute embeddings of codes in the space of the item texts, to start training from (`--centroids`).

    The embedding of a code is the mean, over the items that have the code, of the residual that the digits
    before it leave of the item's text. For residual k-means these means are its centroids. The texts are
    centered, scaled to a mean square length of 1, and projected on their first D principal axes (padded with
    zeros where E < D), so that the embeddings of an item's digits sum to an approximation of its text. The
    last digit only distinguishes equal items and has no embedding here. Of several such digits, those before
    the last have one: the mean residual of the few items that have a code above 0.

    Args:
        sids: [N, H].
        codes: V.
        text: float32 [N, E].
        width: D.

    Returns:
        float32 [H − 1, V, D], 0 for codes that no item has.
    """
    centered = text - text.mean(0)
    axes = np.linalg.eigh(centered.T @ centered)[1][:, ::-1][:, :width]  # [E, min(E, D)], the longest first
    residuals = np.zeros((len(text), width), np.float32)
    residuals[:, : axes.shape[1]] = centered @ axes
    residuals /= np.sqrt(np.maximum((centered**2).sum(1).mean(), np.finfo(np.float32).tiny))
    centroids = np.zeros((sids.shape[1] - 1, codes, width), np.float32)
    for digit, column in zip(centroids, sids.T, strict=False):
        np.add.at(digit, column, residuals)
        digit /= np.maximum(np.bincount(column, minlength=codes), 1)[:, None]
        residuals -= digit[column]
    return centroids
