"""The transformer blocks that all models share: pre-norm, rotary positions, fused attention.

Shapes: B sequences, L tokens in a row with its padding, T real tokens in all, D width, A heads.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.models.config import ModelConfig
from pipelines.models.nn.packing import Group, Layout
from pipelines.models.nn.precision import narrow_in_float32

KeysValues = tuple[Tensor, Tensor]


def rotary(position: Tensor, width: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Rotary embedding (Su et al. 2021) of positions [T] as `apply_rotary` wants it: cosines and signed sines, each [T, 1, 1, width].

    The halves turn together; the sines of the first half are negated.
    """
    frequency = 10000.0 ** (-torch.arange(0, width, 2, device=position.device, dtype=torch.float32) / width)
    angle = position[:, None, None, None] * frequency  # [T, 1, 1, width/2]
    cos, sin = angle.cos(), angle.sin()
    return torch.cat((cos, cos), dim=-1).to(dtype), torch.cat((-sin, sin), dim=-1).to(dtype)


def apply_rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply rotary positions to x [..., T, 2, A, D/A]."""
    left, right = x.chunk(2, dim=-1)
    return torch.addcmul(x * cos, torch.cat((right, left), dim=-1), sin)


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Scaled dot-product attention of [B, A, L, D/A]; `mask` is boolean, False where not to look.

    PyTorch's fused kernel on a GPU. On the CPU plain matrix products and a sum for the mask measured about as fast in float32
    and 2 to 9 times as fast in bfloat16 at these lengths (`python -m benchmarks.attention`).
    """
    if q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    weights = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)  # [B, A, L, L]
    if mask is not None:
        weights = weights + weights.new_zeros(mask.shape).masked_fill_(~mask, -torch.inf)
    return weights.softmax(-1) @ v


def _within(group: Group, qk: Tensor, v: Tensor) -> Tensor:
    """Attention among the tokens of each row of a group: queries and keys [T, 2, A, D/A] and values [T, A, D/A] → [T, A, D/A]."""
    q, k = group.pad(qk).permute(2, 0, 3, 1, 4)  # each [B, A, L, D/A]
    return group.pack(attention(q, k, group.pad(v).transpose(1, 2), group.mask).transpose(1, 2))


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
        words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(
            -(2**63), None
        )  # four 16-bit draws each
        draws = words.view(torch.int16)[: x.numel()].view(x.shape)
        kept = draws >= round(self.rate * 2**16) - 2**15
        return x * kept.to(x.dtype).mul_(1 / (1 - self.rate))


class Block(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x)); in a decoder x + attention to an encoder's states between them."""

    def __init__(self, config: ModelConfig, cross: bool = False) -> None:
        super().__init__()
        self.heads = config.heads
        self.attention_norm = nn.LayerNorm(config.width)
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.out = nn.Linear(config.width, config.width, bias=False)
        self.mlp_norm = nn.LayerNorm(config.width)
        self.up = nn.Linear(config.width, config.mlp)
        self.down = nn.Linear(config.mlp, config.width)
        self.dropout = Dropout(config.dropout)
        if cross:
            self.cross_norm = nn.LayerNorm(config.width)
            self.cross_q = nn.Linear(config.width, config.width, bias=False)
            self.cross_kv = nn.Linear(config.width, 2 * config.width, bias=False)
            self.cross_out = nn.Linear(config.width, config.width, bias=False)

    def attend(self, x: Tensor, layout: Layout, position: tuple[Tensor, Tensor]) -> tuple[Tensor, KeysValues]:
        """x [T, D] plus what each token gathers from those of its row that it sees; and the tokens' keys and values [T, A, D/A]."""
        qk, v = self._heads(self.qkv(self.attention_norm(x)), position)
        sizes = [group.tokens for group in layout.groups]
        y = torch.cat(
            [_within(*part) for part in zip(layout.groups, qk.split(sizes), v.split(sizes), strict=True)]
        )
        return x + self.dropout(self.out(y.flatten(1))), (qk[:, 1], v)

    def keys_values(self, x: Tensor, position: tuple[Tensor, Tensor]) -> KeysValues:
        """The keys and values of tokens x [T, D] alone, [T, A, D/A] each."""
        qk, v = self._heads(self.qkv(self.attention_norm(x)), position)
        return qk[:, 1], v

    def step(
        self, x: Tensor, past: KeysValues, seen: Tensor | None, position: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, KeysValues]:
        """S tokens a beam, x [B, K, S, D], that see the past of their user and each other.

        Args:
            past: keys and values [B, A, P, D/A]; the beams share them, nothing is copied.
            seen: bool [B, P], False at padding; None where there is none.

        Returns:
            x plus what they gather; their own keys and values [B, A, K, S, D/A].
        """
        P = past[0].shape[2]
        qk, v = self._heads(
            self.qkv(self.attention_norm(x)), position
        )  # [B, K, S, 2, A, D/A], [B, K, S, A, D/A]
        q, k, v = (part.permute(0, 3, 1, 2, 4) for part in (*qk.unbind(3), v))  # each [B, A, K, S, D/A]
        q = q * q.shape[-1] ** -0.5
        to_past = (q.flatten(2, 3) @ past[0].transpose(-1, -2)).unflatten(2, x.shape[1:3])  # [B, A, K, S, P]
        if seen is not None:
            to_past.masked_fill_(~seen[:, None, None, None, :], -torch.inf)
        weights = torch.cat((to_past, q @ k.transpose(-1, -2)), dim=-1).softmax(-1)  # [B, A, K, S, P + S]
        y = (weights[..., :P].flatten(2, 3) @ past[1]).unflatten(2, x.shape[1:3]) + weights[..., P:] @ v
        return x + self.out(y.permute(0, 2, 3, 1, 4).flatten(3)), (k, v)

    def decode_step(
        self, x: Tensor, past: KeysValues, position: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, KeysValues]:
        """One more token a row, x [R, 1, D], that sees its row's past, keys and values [R, A, P, D/A], and itself; the past with it."""
        qk, v = self._heads(self.qkv(self.attention_norm(x)), position)  # [R, 1, 2, A, D/A], [R, 1, A, D/A]
        q, *own = (part.transpose(1, 2) for part in (*qk.unbind(2), v))
        k, v = (torch.cat(pair, dim=2) for pair in zip(past, own, strict=True))  # [R, A, P + 1, D/A]
        return x + self.out(attention(q, k, v, None).transpose(1, 2).flatten(2)), (k, v)

    def cross_attend(self, x: Tensor, memory: KeysValues, mask: Tensor | None) -> Tensor:
        """Tokens x [B, L, D] plus what they gather from an encoder's states, as `memory_kv` made keys and values of them."""
        q = self.cross_q(self.cross_norm(x)).unflatten(2, (self.heads, -1)).transpose(1, 2)  # [B, A, L, D/A]
        return x + self.dropout(self.cross_out(attention(q, *memory, mask).transpose(1, 2).flatten(2)))

    def memory_kv(self, states: Tensor, layout: Layout) -> KeysValues:
        """An encoder's states [T, D] as keys and values for `cross_attend`, [B, A, L, D/A] each."""
        k, v = layout.pad(self.cross_kv(states)).unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return k, v

    def _heads(self, qkv: Tensor, position: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """[..., 3·D] → queries and keys [..., 2, A, D/A], turned to their positions, and values [..., A, D/A]."""
        qkv = qkv.unflatten(-1, (3, self.heads, -1))
        return apply_rotary(qkv[..., :2, :, :], *position), qkv[..., 2, :, :]

    def transform(self, x: Tensor) -> Tensor:
        """x [T, D] plus what the MLP adds."""
        return x + self.dropout(self.down(F.gelu(self.up(self.mlp_norm(x)))))


@dataclass(frozen=True)
class Cache:
    """What B histories of P tokens leave in every block for those that come after: keys and values, [B, A, P, D/A] each.

    Attributes:
        past: a pair a block.
        seen: bool [B, P], False at padding; None where there is none.
        last: what the tokens that come next get of the last item, [B, 1, D].
    """

    past: list[KeysValues]
    seen: Tensor | None
    last: Tensor

    @property
    def length(self) -> int:
        """P."""
        return self.past[0][0].shape[2]

    def extended(self, new: list[KeysValues], last: Tensor) -> Cache:
        """With the keys and values [B, A, 1, S, D/A] of S more tokens a user, which make a new last item."""
        past = [
            tuple(torch.cat((old, more.squeeze(2)), dim=2) for old, more in zip(*pair, strict=True))
            for pair in zip(self.past, new, strict=True)
        ]
        more = new[0][0].shape[3]
        seen = None if self.seen is None else torch.nn.functional.pad(self.seen, (0, more), value=True)
        return Cache(past, seen, last)


class Stack(nn.Module):
    """Blocks, one after another."""

    def __init__(self, config: ModelConfig, cross: bool = False) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(config, cross) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.dropout = Dropout(config.dropout)
        self.width, self.head_width = config.width, config.width // config.heads
        self.apply(_initialise)
        for block in self.blocks:  # residual branches start small, so that depth does not blow up the sum
            for layer in (block.out, block.down, *([block.cross_out] if cross else [])):
                nn.init.normal_(layer.weight, std=0.02 / (2 * config.layers) ** 0.5)

    def _rotary(self, position: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        autocast = torch.is_autocast_enabled(x.device.type)
        return rotary(
            position, self.head_width, torch.get_autocast_dtype(x.device.type) if autocast else x.dtype
        )


class Encoder(Stack):
    """Blocks over tokens that see each other as a layout says."""

    @narrow_in_float32
    def run_layers(self, x: Tensor, layout: Layout, layers: int) -> Tensor:
        """The first layers alone: embedded real tokens [T, D] → [T, D]."""
        position = self._rotary(layout.position, x)
        x = self.dropout(x)
        for block in self.blocks[:layers]:
            x = block.transform(block.attend(x, layout, position)[0])
        return x

    @narrow_in_float32
    def forward(self, x: Tensor, layout: Layout, keep: Tensor, begun: int = 0) -> Tensor:
        """Hidden states of the wanted tokens.

        Args:
            x: embedded real tokens [T, D], or what `run_layers` made of them.
            layout: where they lie.
            keep: indices [M] into T of the tokens wanted; the last MLP runs only there.
            begun: layers that `run_layers` ran.

        Returns:
            [M, D].
        """
        if begun == len(self.blocks):
            return self.norm(x.index_select(0, keep))
        position = self._rotary(layout.position, x)
        x = x if begun else self.dropout(x)
        for block in self.blocks[begun:-1]:
            x = block.transform(block.attend(x, layout, position)[0])
        last = self.blocks[-1]
        return self.norm(last.transform(last.attend(x, layout, position)[0].index_select(0, keep)))

    @narrow_in_float32
    def prefill(self, x: Tensor, layout: Layout, last: Tensor) -> Cache:
        """The keys and values of embedded real tokens [T, D]; `last` goes along."""
        position, past = self._rotary(layout.position, x), []
        for block in self.blocks[:-1]:
            x, pair = block.attend(x, layout, position)
            x = block.transform(x)
            past.append(pair)
        past.append(self.blocks[-1].keys_values(x, position))
        return Cache(
            [tuple(layout.pad(part).transpose(1, 2) for part in pair) for pair in past], layout.real, last
        )

    @narrow_in_float32
    def step(self, x: Tensor, cache: Cache) -> tuple[Tensor, list[KeysValues]]:
        """Hidden states of S embedded tokens a beam, [B, K, S, D] each, that follow what the cache holds; and their keys and values."""
        position = self._rotary(torch.arange(cache.length, cache.length + x.shape[2], device=x.device), x)
        new = []
        for block, past in zip(self.blocks, cache.past, strict=True):
            x, pair = block.step(x, past, cache.seen, position)
            x = block.transform(x)
            new.append(pair)
        return self.norm(x), new


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=module.in_features**-0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
