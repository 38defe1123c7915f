"""Transformer decoder: causal self-attention, and cross-attention to encoded histories.

Shapes: B histories, L padded row length of a history, M packed tokens of all histories, K beams, S tokens
after a history, C cached tokens after a history, R = B·K rows, D width, A heads.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pipelines.models.config import ModelConfig
from pipelines.models.nn.attention import KeysValues
from pipelines.models.nn.packing import Layout
from pipelines.models.nn.precision import narrow_in_float32
from pipelines.models.nn.transformer import Stack


@dataclass(frozen=True)
class Memory:
    """Cross-attention memory: keys and values of B encoded histories, computed once per history.

    Attributes:
        keys_values: cross-attention keys and values of each block, [B, A, L, D/A] each.
        mask: padding mask, bool [B, 1, 1, L], False at padding; None if there is no padding.
    """

    keys_values: list[KeysValues]
    mask: Tensor | None

    def empty_cache(self, rows: int) -> list[KeysValues]:
        """Return the KV cache of R rows without tokens, for `Decoder.decode_step`."""
        keys = self.keys_values[0][0]
        empty = keys.new_empty((rows, keys.shape[1], 0, keys.shape[3]))  # [R, A, 0, D/A]
        return [(empty, empty)] * len(self.keys_values)


class Decoder(Stack):
    """Transformer with causal self-attention, and cross-attention to encoded histories."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, cross=True)

    @narrow_in_float32
    def prefill(self, states: Tensor, layout: Layout) -> Memory:
        """Return the cross-attention memory of an encoder's states [M, D] with a bidirectional layout."""
        mask = None if layout.real is None else layout.real[:, None, None, :]
        return Memory([block.memory_kv(states, layout) for block in self.blocks], mask)

    @narrow_in_float32
    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        """Return the hidden states of all tokens in one pass: embeddings [B, S, D] → [B, S, D].

        Each token sees the tokens before it, itself, and the history.
        """
        shape = x.shape[:2]
        layout = Layout.causal(torch.ones(shape, dtype=torch.bool), 1, x.device)
        rotation = self._rotary(layout.position, x)
        x = self.dropout(x)
        for block, history in zip(self.blocks, memory.keys_values, strict=True):
            x = block.attend(x.flatten(0, 1), layout, rotation)[0].unflatten(0, shape)
            x = block.transform(block.cross_attend(x, history, memory.mask))
        return self.norm(x)

    @narrow_in_float32
    def decode_step(
        self, x: Tensor, memory: Memory, cache: list[KeysValues]
    ) -> tuple[Tensor, list[KeysValues]]:
        """Return the hidden states of one more token per beam, and the KV cache with this token.

        Args:
            x: embeddings [B, K, D].
            memory: cross-attention memory of the B histories, shared by the beams of a user.
            cache: KV cache of the beams: keys and values of the tokens after the history in each block, [R,
                A, C, D/A] each; at first `Memory.empty_cache`.

        Returns:
            Hidden states [B, K, D]; keys and values of each block, [R, A, C + 1, D/A] each.
        """
        C = cache[0][0].shape[2]
        rotation = self._rotary(torch.arange(C, C + 1, device=x.device), x)
        grown = []
        for block, history, cached in zip(self.blocks, memory.keys_values, cache, strict=True):
            rows, keys_values = block.attend_next(x.flatten(0, 1)[:, None], cached, rotation)  # [R, 1, D]
            x = block.transform(block.cross_attend(rows.view(x.shape), history, memory.mask))
            grown.append(keys_values)
        return self.norm(x), grown
