"""A decoder: tokens that see those before them, and an encoder's states of the history they follow.

Shapes: B histories, L tokens of a history with its padding, K beams, S tokens after a history, D width, A heads.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pipelines.models.config import ModelConfig
from pipelines.models.nn.packing import Layout
from pipelines.models.nn.precision import narrow_in_float32
from pipelines.models.nn.transformer import KeysValues, Stack


@dataclass(frozen=True)
class Memory:
    """What a decoder sees of B encoded histories, computed once for all that follows them.

    Attributes:
        shown: for each block keys and values, [B, A, L, D/A] each.
        mask: bool [B, 1, 1, L], False at padding; None where there is none.
    """

    shown: list[KeysValues]
    mask: Tensor | None

    def nothing(self, rows: int) -> list[KeysValues]:
        """The past of rows that have no tokens yet, for `Decoder.step`."""
        keys = self.memory_kv[0][0]
        empty = keys.new_empty((rows, keys.shape[1], 0, keys.shape[3]))
        return [(empty, empty)] * len(self.memory_kv)


class Decoder(Stack):
    """Blocks with attention to an encoder's states."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, cross=True)

    @narrow_in_float32
    def prefill(self, states: Tensor, layout: Layout) -> Memory:
        """An encoder's states [T, D] of bidirectional histories, for the other methods."""
        mask = None if layout.real is None else layout.real[:, None, None, :]
        return Memory([block.memory_kv(states, layout) for block in self.blocks], mask)

    @narrow_in_float32
    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        """States of all tokens at once, [B, S, D] of embedded ones [B, S, D]: each sees itself and those before it."""
        shape = x.shape[:2]
        layout = Layout.causal(torch.ones(shape, dtype=torch.bool), 1, x.device)
        position = self._rotary(layout.position, x)
        x = self.dropout(x)
        for block, shown in zip(self.blocks, memory.memory_kv, strict=True):
            x = block.attend(x.flatten(0, 1), layout, position)[0].unflatten(0, shape)
            x = block.transform(block.cross_attend(x, shown, memory.mask))
        return self.norm(x)

    @narrow_in_float32
    def step(self, x: Tensor, memory: Memory, past: list[KeysValues]) -> tuple[Tensor, list[KeysValues]]:
        """One more token of K beams a history.

        Args:
            x: embedded, [B, K, D].
            memory: of the B histories; the beams share it.
            past: keys and values of the tokens before, [B·K, A, S, D/A] each, a pair a block; at first `Memory.nothing`.

        Returns:
            The token's states [B, K, D], and the past with it.
        """
        length = past[0][0].shape[2]
        position = self._rotary(torch.arange(length, length + 1, device=x.device), x)
        grown = []
        for block, shown, before in zip(self.blocks, memory.memory_kv, past, strict=True):
            rows, pair = block.decode_step(x.flatten(0, 1)[:, None], before, position)
            x = block.transform(block.cross_attend(rows.view(x.shape), shown, memory.mask))
            grown.append(pair)
        return self.norm(x), grown
