"""The transformer blocks that all models share: pre-norm, rotary positions, fused attention.

Shapes: B sequences, L tokens in a row with its padding, T real tokens in all, D width, A heads.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.models.config import ModelConfig


def rotary(length: int, width: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Rotary position embedding (Su et al. 2021) as `turn` wants it: cosines and signed sines, each [length, width].

    The halves turn together; the sines of the first half are negated.
    """
    frequency = 10000.0 ** (-torch.arange(0, width, 2, device=device, dtype=torch.float32) / width)
    angle = torch.outer(torch.arange(length, device=device, dtype=torch.float32), frequency)  # [L, width/2]
    cos, sin = angle.cos(), angle.sin()
    return torch.cat((cos, cos), dim=1).to(dtype), torch.cat((-sin, sin), dim=1).to(dtype)


def turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply rotary positions to x [..., L, D/A]."""
    left, right = x.chunk(2, dim=-1)
    return torch.addcmul(x * cos, torch.cat((right, left), dim=-1), sin)


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Scaled dot-product attention of [B, A, L, D/A]; `mask` is boolean, False where not to look.

    PyTorch's fused kernel, except for bfloat16 on the CPU, where plain matrix products measured 2 to 8 times
    faster at these lengths (`python -m benchmarks.attention`).
    """
    if q.device.type != "cpu" or q.dtype != torch.bfloat16:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    weights = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)  # [B, A, L, L]
    if mask is not None:
        weights.masked_fill_(~mask, -torch.inf)
    return weights.softmax(-1) @ v


class Dropout(nn.Module):
    """Dropout; on the CPU from 16 random bits an element, two to three times as fast as PyTorch's (`python -m benchmarks.attention`)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """x of any shape; in training some of it zero and the rest scaled up."""
        if not self.training or not self.rate:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.rate)
        words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)  # four 16-bit draws each
        draws = words.view(torch.int16)[: x.numel()].view(x.shape)
        kept = draws >= round(self.rate * 2**16) - 2**15
        return x * kept.to(x.dtype).mul_(1 / (1 - self.rate))


@dataclass(frozen=True)
class Layout:
    """Where T real tokens lie in B rows of L. Only attention needs the rows; all else runs on the real tokens alone.

    Attributes:
        rows: B.
        length: L.
        where: int64 [T], flat index into B·L of each real token; None where there is no padding.
        mask: bool [B, 1, 1, L], False at padding; None where there is none.
    """

    rows: int
    length: int
    where: Tensor | None
    mask: Tensor | None

    @staticmethod
    def of(real: Tensor) -> Layout:
        """The layout of tokens [B, L] that are real where `real` is True."""
        if bool(real.all()):
            return Layout(*real.shape, None, None)
        return Layout(*real.shape, real.flatten().nonzero().squeeze(1), real[:, None, None, :])

    def flat(self, x: Tensor) -> Tensor:
        """[B, L, ...] → [T, ...]."""
        x = x.flatten(0, 1)
        return x if self.where is None else x.index_select(0, self.where)

    def padded(self, x: Tensor) -> Tensor:
        """[T, ...] → [B, L, ...], zero at padding."""
        if self.where is not None:
            x = x.new_zeros((self.rows * self.length, *x.shape[1:])).index_copy(0, self.where, x)
        return x.unflatten(0, (self.rows, self.length))

    def index(self, position: Tensor) -> Tensor:
        """Flat indices into B·L of real tokens → indices into T."""
        return position if self.where is None else torch.searchsorted(self.where, position)


class Block(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x))."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.attention_norm = nn.LayerNorm(config.width)
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.out = nn.Linear(config.width, config.width, bias=False)
        self.mlp_norm = nn.LayerNorm(config.width)
        self.up = nn.Linear(config.width, config.mlp)
        self.down = nn.Linear(config.mlp, config.width)
        self.dropout = Dropout(config.dropout)

    def attend(self, x: Tensor, layout: Layout, position: tuple[Tensor, Tensor]) -> Tensor:
        """x [T, D] plus what each token gathers from the real tokens of its row."""
        qkv = layout.padded(self.qkv(self.attention_norm(x))).unflatten(2, (3, self.heads, -1))  # [B, L, 3, A, D/A]
        qkv = qkv.permute(2, 0, 3, 1, 4)  # [3, B, A, L, D/A]
        y = attention(*turn(qkv[:2], *position), qkv[2], layout.mask)
        return x + self.dropout(self.out(layout.flat(y.transpose(1, 2).flatten(2))))

    def transform(self, x: Tensor) -> Tensor:
        """x [T, D] plus what the MLP adds."""
        return x + self.dropout(self.down(F.gelu(self.up(self.mlp_norm(x)))))


class Encoder(nn.Module):
    """A stack of blocks in which every real token sees every real token of its row."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.dropout = Dropout(config.dropout)
        self.head_width = config.width // config.heads
        self.apply(_initialise)
        for block in self.blocks:  # residual branches start small, so that depth does not blow up the sum
            for layer in (block.out, block.down):
                nn.init.normal_(layer.weight, std=0.02 / (2 * config.layers) ** 0.5)

    def forward(self, x: Tensor, layout: Layout, keep: Tensor) -> Tensor:
        """Hidden states of the wanted tokens.

        Args:
            x: embedded real tokens [T, D].
            layout: where they lie.
            keep: indices [M] into T of the tokens wanted; the last MLP runs only there.

        Returns:
            [M, D].
        """
        autocast = torch.is_autocast_enabled(x.device.type)
        dtype = torch.get_autocast_dtype(x.device.type) if autocast else x.dtype
        position = rotary(layout.length, self.head_width, x.device, dtype)
        x = self.dropout(x)
        for block in self.blocks[:-1]:
            x = block.transform(block.attend(x, layout, position))
        last = self.blocks[-1]
        return self.norm(last.transform(last.attend(x, layout, position).index_select(0, keep)))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=module.in_features**-0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
