"""MaskGR: a bidirectional transformer that fills in masked digits of semantic IDs (arXiv 2511.23021).

Vocabulary: H·V digit codes (code c of digit h is token h·V + c), then MASK, then PAD. Digit h can only take
digit h's codes: its logits are V wide and come from a head of its own.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.models.config import ModelConfig
from pipelines.models.noise import cut_to_next_item, masked_diffusion_weights
from pipelines.models.transformer import Encoder, Layout


class MaskGR(nn.Module):
    """Masked diffusion over the digits of a history.

    Histories are [B, n] item numbers, padded on the left with −1; they become L = n·H tokens.
    """

    def __init__(self, config: ModelConfig, sids: np.ndarray, codes: int) -> None:
        """
        Args:
            config: sizes.
            sids: semantic IDs [N, H], codes from 0 to V − 1.
            codes: V.
        """
        super().__init__()
        self.config, self.codes, self.digits = config, codes, sids.shape[1]
        self.mask, self.pad = self.digits * codes, self.digits * codes + 1
        tokens = torch.as_tensor(sids, dtype=torch.int64) + torch.arange(self.digits) * codes  # [N, H]
        tokens = torch.cat((tokens, torch.full((1, self.digits), self.pad)))  # item −1 is the last row: PAD
        self.register_buffer("item_tokens", tokens, persistent=False)
        self.embedding = nn.Embedding(self.pad + 1, config.width)
        self.digit_embedding = nn.Embedding(self.digits, config.width)  # tells a MASK which digit it stands for
        self.encoder = Encoder(config)
        self.head = nn.Parameter(torch.empty(self.digits, config.width, codes))
        for weight in (self.embedding.weight, self.digit_embedding.weight):
            nn.init.normal_(weight, std=config.width**-0.5)
        nn.init.normal_(self.head, std=config.width**-0.5)

    @property
    def tokens_per_item(self) -> int:
        """H: what an item of history costs."""
        return self.digits

    def draw(self, items: np.ndarray, rng: np.random.Generator, next_item: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """What one whole optimiser step trains on.

        Args:
            items: [B, n], −1 at padding.
            next_item: share of sequences that become next-item examples (see `noise.cut_to_next_item`).

        Returns:
            The items [B, n], and float32 [B, n, H] weights of their digits: 0 where visible.
        """
        items, eligible = cut_to_next_item(items, next_item, rng)
        return items, masked_diffusion_weights(np.broadcast_to(eligible[:, :, None], (*items.shape, self.digits)), rng)

    def forward(self, items: Tensor, weights: Tensor) -> Tensor:
        """Weighted sum of the cross-entropies of the masked digits (eq. 3); divide by the step's summed weights.

        Args:
            items: [B, n], −1 at padding.
            weights: [B, n, H] as `draw` made them; the digits with a weight are masked.
        """
        masked = weights > 0
        truth = self.item_tokens[items]  # [B, n, H]
        tokens = truth.masked_fill(masked, self.mask).flatten(1)  # [B, L]
        keep = masked.flatten().nonzero().squeeze(1)  # [M]
        keep = keep[torch.argsort(keep % self.digits, stable=True)]  # grouped by digit: one matrix product a digit
        hidden = self.hidden(tokens, keep)  # [M, D]
        counts = masked.flatten(0, 1).sum(0).tolist()
        code = truth.flatten()[keep] % self.codes
        groups = zip(hidden.split(counts), code.split(counts), weights.flatten()[keep].split(counts), self.head, strict=True)
        return sum(F.cross_entropy((h @ head).float(), c, reduction="none") @ w for h, c, w, head in groups)

    def hidden(self, tokens: Tensor, keep: Tensor) -> Tensor:
        """Hidden states [M, D] of the tokens [B, L] whose flat indices are `keep` [M]."""
        layout = Layout.of(tokens != self.pad)
        place = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
        x = self.embedding(layout.flat(tokens)) + self.digit_embedding(layout.flat(place) % self.digits)  # [T, D]
        return self.encoder(x, layout, layout.index(keep))

    def log_probabilities(self, history: Tensor, codes: Tensor) -> Tensor:
        """What the model expects at each digit of the next item, given the digits already revealed.

        Args:
            history: [B, n] items, −1 at padding.
            codes: [B, K, H] codes of each beam, V where still masked.

        Returns:
            float32 [B, K, H, V] log-probabilities, at revealed digits too (they mean nothing there).
        """
        B, K, H = codes.shape
        offsets = torch.arange(H, device=codes.device) * self.codes
        target = torch.where(codes == self.codes, self.mask, codes + offsets)  # [B, K, H]
        past = self.item_tokens[history].flatten(1)[:, None].expand(B, K, -1)  # [B, K, n·H]
        tokens = torch.cat((past, target), dim=2).flatten(0, 1)  # [B·K, L]
        L = tokens.shape[1]
        ends = torch.arange(B * K, device=codes.device) * L + L - H
        keep = (ends[:, None] + torch.arange(H, device=codes.device)).flatten()
        hidden = self.hidden(tokens, keep).view(B * K, H, -1)
        logits = torch.einsum("bhd,hdv->bhv", hidden, self.head).float()
        return logits.log_softmax(-1).view(B, K, H, self.codes)
