"""BSARec: a frequency filter beside the self-attention of each block (Shin et al. 2024, arXiv 2312.10325).

A block mixes α of a filter with 1 − α of causal self-attention. The filter splits a sequence into its lowest
frequencies and the rest, and scales the rest by β², learned for each number of the width. It sees the whole
sequence, so that a state depends on later items too. Therefore each prefix of a sequence is a training
example of its own, whose last item is the only target.

The paper pads sequences on the left to a fixed length and transforms the padded sequence. Here padding is
zero in every block, so that the filter of a padded sequence is a product of its real items with a part of one
matrix, and padding costs nothing. In the paper, padding becomes other than zero behind the first norm.
Further differences: no dropout of attention weights; projections have no biases; β² starts at 1.

Shapes: B sequences, L padded row length, M packed tokens (real items), R states, D width, A heads.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.data.catalogue import Catalogue
from pipelines.models.config import ModelConfig
from pipelines.models.denoiser import ItemScores
from pipelines.models.item_models.config import BSARecConfig
from pipelines.models.item_models.sasrec import SASRec
from pipelines.models.nn.attention import group_attention
from pipelines.models.nn.dropout import Dropout
from pipelines.models.nn.packing import Layout
from pipelines.models.nn.precision import narrow_in_float32


class FrequencyFilter(nn.Module):
    """The frequency rescaler: low-pass part + β² × high-pass part (section "Beyond Self-Attention").

    Attributes:
        impulse: low-pass part of the sequence (1, 0, …, 0) of the fixed length, float32 [length].
    """

    impulse: Tensor

    def __init__(self, width: int, length: int, frequencies: int) -> None:
        """
        Args:
            width: D.
            length: fixed length to which sequences are padded.
            frequencies: c, odd.
        """
        super().__init__()
        kept = torch.arange(length // 2 + 1) <= frequencies // 2
        impulse = torch.fft.irfft(kept.to(torch.complex64), n=length)
        self.register_buffer("impulse", impulse, persistent=False)
        self.beta = nn.Parameter(torch.ones(width))

    def low(self, x: Tensor, layout: Layout) -> Tensor:
        """Return the low-pass part of packed tokens: [M, D] → [M, D]."""
        if layout.indices is None and layout.real is not None:  # padding among the tokens, `padding_kept`
            x = x * layout.real.flatten()[:, None]
        place = torch.arange(layout.length, device=x.device)
        matrix = self.impulse[(place[:, None] - place).abs()]  # [L, L]; the impulse is even
        parts = zip(layout.groups, x.split([group.tokens for group in layout.groups]), strict=True)
        # Distances alone matter, so that shorter rows take the begin of the matrix.
        low = [group.pack(matrix[: group.length, : group.length] @ group.pad(part)) for group, part in parts]
        return torch.cat(low)

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        """Filter packed tokens: [M, D] → [M, D]."""
        low = self.low(x, layout)
        return low + self.beta.square() * (x - low)


class MixedBlock(nn.Module):
    """Post-norm block: norm(x + α · filter(x) + (1 − α) · attention(x)), then norm(x + MLP(x))."""

    def __init__(self, config: BSARecConfig) -> None:
        super().__init__()
        self.heads, self.share = config.heads, config.filter_share
        self.filter = FrequencyFilter(config.width, config.max_items, config.low_frequencies)
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.out = nn.Linear(config.width, config.width, bias=False)
        self.norm = nn.LayerNorm(config.width)
        self.up = nn.Linear(config.width, config.mlp)
        self.down = nn.Linear(config.mlp, config.width)
        self.mlp_norm = nn.LayerNorm(config.width)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, layout: Layout, keep: Tensor | None = None) -> Tensor:
        """Transform packed tokens.

        Args:
            x: [M, D].
            layout: layout of the tokens, which see no later ones.
            keep: indices of the tokens to return, int64 [R]; None for all.

        Returns:
            [R or M, D].
        """
        filtered, attended = self.filter(x, layout), self.attend(x, layout)
        if keep is not None:
            x, filtered, attended = (part.index_select(0, keep) for part in (x, filtered, attended))
        mixed = self.share * filtered + (1 - self.share) * self.out(attended)
        x = self.norm(x + self.dropout(mixed))
        return self.mlp_norm(x + self.dropout(self.down(F.gelu(self.up(x)))))

    def attend(self, x: Tensor, layout: Layout) -> Tensor:
        """Return what the heads of self-attention read, side by side: [M, D] → [M, D]."""
        qkv = self.qkv(x).unflatten(1, (3, self.heads, -1))  # [M, 3, A, D/A]
        sizes = [group.tokens for group in layout.groups]
        parts = zip(layout.groups, qkv.split(sizes), strict=True)
        return torch.cat([group_attention(group, part[:, :2], part[:, 2]) for group, part in parts]).flatten(
            1
        )


class MixedEncoder(nn.Module):
    """Blocks of filter and attention over packed tokens, with learned positions that count from the end."""

    def __init__(self, config: BSARecConfig) -> None:
        super().__init__()
        self.width = config.width
        self.positions = nn.Embedding(config.max_items, config.width)
        self.norm, self.dropout = nn.LayerNorm(config.width), Dropout(config.dropout)
        self.blocks = nn.ModuleList(MixedBlock(config) for _ in range(config.layers))
        nn.init.normal_(self.positions.weight, std=0.02)

    @narrow_in_float32
    def forward(self, x: Tensor, layout: Layout, keep: Tensor) -> Tensor:
        """Return the states of some tokens.

        Args:
            x: embeddings of packed tokens [M, D].
            layout: layout of the tokens; rows have padding on the left alone.
            keep: indices of the tokens, int64 [R].

        Returns:
            [R, D].
        """
        from_end = layout.length - 1 - layout.position  # number of items after each item in its row
        x = self.dropout(self.norm(x + self.positions(from_end)))
        last = len(self.blocks) - 1
        for number, block in enumerate(self.blocks):
            x = block(x, layout, keep if number == last else None)
        return x


class BSARec(SASRec):
    """BSARec: it scores items and computes losses as SASRec does, with one target in each sequence."""

    config: BSARecConfig

    def __init__(self, config: BSARecConfig, catalogue: Catalogue) -> None:
        super().__init__(config, catalogue)

    def make_encoder(self, config: ModelConfig) -> nn.Module:
        assert isinstance(config, BSARecConfig), "the configuration is BSARec's"
        return MixedEncoder(config)

    def make_training_batch(
        self, items: np.ndarray, rng: np.random.Generator, horizon: int = 1
    ) -> tuple[np.ndarray, ...]:
        """Draw a training batch; see `SASRec.make_training_batch`. The last item of a row is its target."""
        items, weights, *negative = super().make_training_batch(items, rng, horizon)
        weights[:, :-1] = 0
        return items, weights, *negative

    def scores_within(self, sequences: Tensor) -> ItemScores | None:
        """Return None: a state in the middle of a sequence has seen later items."""
        return None
