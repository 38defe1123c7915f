"""The transformer that all models share: pre-norm blocks, rotary positions, fused attention, KV cache.

Shapes: B sequences, L padded row length, M packed tokens, D width, A heads, K beams, J new tokens per beam, C
cached tokens, R rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.models.config import ModelConfig
from pipelines.models.nn.attention import KeysValues, attention, group_attention
from pipelines.models.nn.dropout import Dropout
from pipelines.models.nn.packing import Layout
from pipelines.models.nn.precision import narrow_in_float32
from pipelines.models.nn.rotary import Rotation, apply_rotary, rotary


class Block(nn.Module):
    """Pre-norm transformer block: x + attention(norm(x)), then x + MLP(norm(x)).

    The block of a decoder has x + cross-attention(norm(x)) between the two.
    """

    def __init__(self, config: ModelConfig, cross: bool = False) -> None:
        """
        Args:
            config: sizes.
            cross: if true, the block has cross-attention.
        """
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

    def attend(self, x: Tensor, layout: Layout, rotation: Rotation) -> tuple[Tensor, KeysValues]:
        """Add self-attention to packed tokens.

        Args:
            x: [M, D].
            layout: layout of the tokens.
            rotation: rotary positions of the tokens.

        Returns:
            x plus self-attention [M, D]; keys and values of the tokens, [M, A, D/A] each.
        """
        qk, v = self._project(x, rotation)
        sizes = [group.tokens for group in layout.groups]
        parts = zip(layout.groups, qk.split(sizes), v.split(sizes), strict=True)
        y = torch.cat([group_attention(*part) for part in parts])  # [M, A, D/A]
        return x + self.dropout(self.out(y.flatten(1))), (qk[:, 1], v)

    def keys_values(self, x: Tensor, rotation: Rotation) -> KeysValues:
        """Return the keys and values of packed tokens: x [M, D] → [M, A, D/A] each."""
        qk, v = self._project(x, rotation)
        return qk[:, 1], v

    def attend_beams(
        self, x: Tensor, cached: KeysValues, real: Tensor | None, rotation: Rotation
    ) -> tuple[Tensor, KeysValues]:
        """Add self-attention to J new tokens per beam, which see the cached tokens and each other.

        Args:
            x: [B, K, J, D].
            cached: keys and values of the cached tokens, [B, A, C, D/A] each. The beams of a user share them
                without a copy.
            real: padding mask of the cached tokens, bool [B, C], False at padding; None if there is no
                padding.
            rotation: rotary positions of the J tokens.

        Returns:
            x plus self-attention [B, K, J, D]; keys and values of the new tokens, [B, A, K, J, D/A] each.
        """
        keys, values = cached
        C, beams = keys.shape[2], x.shape[1:3]
        qk, v = self._project(x, rotation)  # [B, K, J, 2, A, D/A], [B, K, J, A, D/A]
        q, k, v = (part.permute(0, 3, 1, 2, 4) for part in (*qk.unbind(3), v))  # [B, A, K, J, D/A] each
        q = q * q.shape[-1] ** -0.5
        to_cached = (q.flatten(2, 3) @ keys.transpose(-1, -2)).unflatten(2, beams)  # [B, A, K, J, C]
        if real is not None:
            to_cached.masked_fill_(~real[:, None, None, None, :], -torch.inf)
        weights = torch.cat((to_cached, q @ k.transpose(-1, -2)), dim=-1).softmax(-1)  # [B, A, K, J, C + J]
        of_cached = (weights[..., :C].flatten(2, 3) @ values).unflatten(2, beams)  # [B, A, K, J, D/A]
        y = of_cached + weights[..., C:] @ v  # [B, A, K, J, D/A]
        return x + self.out(y.permute(0, 2, 3, 1, 4).flatten(3)), (k, v)

    def attend_next(self, x: Tensor, cached: KeysValues, rotation: Rotation) -> tuple[Tensor, KeysValues]:
        """Add self-attention to one new token per row, which sees the cached tokens of its row and itself.

        Args:
            x: [R, 1, D].
            cached: keys and values of the cached tokens, [R, A, C, D/A] each.
            rotation: rotary position of the new token.

        Returns:
            x plus self-attention [R, 1, D]; keys and values of all tokens, [R, A, C + 1, D/A] each.
        """
        qk, v = self._project(x, rotation)  # [R, 1, 2, A, D/A], [R, 1, A, D/A]
        q, k, v = (part.transpose(1, 2) for part in (*qk.unbind(2), v))  # [R, A, 1, D/A] each
        k = torch.cat((cached[0], k), dim=2)  # [R, A, C + 1, D/A]
        v = torch.cat((cached[1], v), dim=2)  # [R, A, C + 1, D/A]
        return x + self.out(attention(q, k, v, None).transpose(1, 2).flatten(2)), (k, v)

    def cross_attend(self, x: Tensor, memory: KeysValues, mask: Tensor | None) -> Tensor:
        """Add cross-attention to the tokens of padded rows.

        Args:
            x: [B, J, D].
            memory: keys and values of the encoded histories as `memory_kv` returns them, [B, A, L, D/A] each.
            mask: padding mask of the histories, bool [B, 1, 1, L], False at padding; None if there is no
                padding.

        Returns:
            x plus cross-attention [B, J, D].
        """
        q = self.cross_q(self.cross_norm(x)).unflatten(2, (self.heads, -1)).transpose(1, 2)  # [B, A, J, D/A]
        return x + self.dropout(self.cross_out(attention(q, *memory, mask).transpose(1, 2).flatten(2)))

    def memory_kv(self, states: Tensor, layout: Layout) -> KeysValues:
        """Return the cross-attention keys and values of encoder states [M, D]: [B, A, L, D/A] each."""
        kv = layout.pad(self.cross_kv(states)).unflatten(2, (2, self.heads, -1))  # [B, L, 2, A, D/A]
        k, v = kv.permute(2, 0, 3, 1, 4)
        return k, v

    def transform(self, x: Tensor) -> Tensor:
        """Add the MLP to tokens [..., D]."""
        return x + self.dropout(self.down(F.gelu(self.up(self.mlp_norm(x)))))

    def _project(self, x: Tensor, rotation: Rotation) -> tuple[Tensor, Tensor]:
        """Return rotated queries and keys [..., 2, A, D/A], and values [..., A, D/A], of tokens [..., D]."""
        qkv = self.qkv(self.attention_norm(x)).unflatten(-1, (3, self.heads, -1))
        return apply_rotary(qkv[..., :2, :, :], *rotation), qkv[..., 2, :, :]


@dataclass(frozen=True)
class Cache:
    """KV cache of B histories of C tokens.

    Attributes:
        keys_values: keys and values of each block, [B, A, C, D/A] each.
        real: padding mask, bool [B, C], False at padding; None if there is no padding.
        last: term that the last item of the history adds to the embeddings of the tokens after it, [B, 1, D].
    """

    keys_values: list[KeysValues]
    real: Tensor | None
    last: Tensor

    @property
    def length(self) -> int:
        """C."""
        return self.keys_values[0][0].shape[2]

    def extended(self, new: list[KeysValues], last: Tensor) -> Cache:
        """Return the cache with one more item of J tokens per user.

        Args:
            new: keys and values of the item's tokens in each block, [B, A, 1, J, D/A] each, from
                `Encoder.decode_beams`.
            last: term of the new item [B, 1, D].
        """
        keys_values = [
            (torch.cat((k, new_k.squeeze(2)), dim=2), torch.cat((v, new_v.squeeze(2)), dim=2))
            for (k, v), (new_k, new_v) in zip(self.keys_values, new, strict=True)
        ]
        J = new[0][0].shape[3]
        real = None if self.real is None else F.pad(self.real, (0, J), value=True)
        return Cache(keys_values, real, last)


class Stack(nn.Module):
    """A sequence of blocks with a final norm."""

    def __init__(self, config: ModelConfig, cross: bool = False) -> None:
        super().__init__()
        blocks = nn.ModuleList(Block(config, cross) for _ in range(config.layers))
        self.blocks = cast("Sequence[Block]", blocks)  # a ModuleList does not know the type of its modules
        self.norm = nn.LayerNorm(config.width)
        self.dropout = Dropout(config.dropout)
        self.width, self.head_width = config.width, config.width // config.heads
        self.apply(_initialize)
        for block in self.blocks:  # residual branches start small, so that depth does not blow up the sum
            for layer in (block.out, block.down, *([block.cross_out] if cross else [])):
                nn.init.normal_(layer.weight, std=0.02 / (2 * config.layers) ** 0.5)

    def _rotary(self, position: Tensor, x: Tensor) -> Rotation:
        """Return the rotary positions [M] in the type in which the blocks compute on x."""
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        return rotary(position, self.head_width, dtype)


class Encoder(Stack):
    """Transformer over packed tokens."""

    @narrow_in_float32
    def run_layers(self, x: Tensor, layout: Layout, layers: int) -> Tensor:
        """Run the first layers alone.

        Args:
            x: embeddings of packed tokens [M, D].
            layout: layout of the tokens.
            layers: number of layers.

        Returns:
            [M, D].
        """
        rotation = self._rotary(layout.position, x)
        x = self.dropout(x)
        for block in self.blocks[:layers]:
            x = block.transform(block.attend(x, layout, rotation)[0])
        return x

    @narrow_in_float32
    def forward(self, x: Tensor, layout: Layout, keep: Tensor, layers_done: int = 0) -> Tensor:
        """Return the hidden states of some of the tokens.

        Args:
            x: embeddings of packed tokens [M, D], or the result of `run_layers`.
            layout: layout of the tokens.
            keep: int64 [R], indices into M of the tokens to return; the last MLP runs on these alone.
            layers_done: number of layers that `run_layers` ran.

        Returns:
            [R, D].
        """
        if layers_done == len(self.blocks):
            return self.norm(x.index_select(0, keep))
        rotation = self._rotary(layout.position, x)
        x = x if layers_done else self.dropout(x)
        for block in self.blocks[layers_done:-1]:
            x = block.transform(block.attend(x, layout, rotation)[0])
        last = self.blocks[-1]
        x = last.attend(x, layout, rotation)[0].index_select(0, keep)  # [R, D]
        return self.norm(last.transform(x))

    @narrow_in_float32
    def prefill(self, x: Tensor, layout: Layout, last: Tensor) -> Cache:
        """Return the KV cache of histories.

        Args:
            x: embeddings of packed tokens [M, D].
            layout: layout of the tokens.
            last: see `Cache`.
        """
        rotation, packed = self._rotary(layout.position, x), []
        for block in self.blocks[:-1]:
            x, keys_values = block.attend(x, layout, rotation)
            x = block.transform(x)
            packed.append(keys_values)
        packed.append(self.blocks[-1].keys_values(x, rotation))
        padded = [(layout.pad(k).transpose(1, 2), layout.pad(v).transpose(1, 2)) for k, v in packed]
        return Cache(padded, layout.real, last)

    @narrow_in_float32
    def decode_beams(self, x: Tensor, cache: Cache) -> tuple[Tensor, list[KeysValues]]:
        """Return the hidden states of J new tokens per beam; the beams of a user share the cached history.

        Args:
            x: embeddings [B, K, J, D].
            cache: KV cache of the B histories.

        Returns:
            Hidden states [B, K, J, D]; keys and values of the new tokens in each block, [B, A, K, J, D/A]
            each.
        """
        position = torch.arange(cache.length, cache.length + x.shape[2], device=x.device)
        rotation, new = self._rotary(position, x), []
        for block, cached in zip(self.blocks, cache.keys_values, strict=True):
            x, keys_values = block.attend_beams(x, cached, cache.real, rotation)
            x = block.transform(x)
            new.append(keys_values)
        return self.norm(x), new


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=module.in_features**-0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
