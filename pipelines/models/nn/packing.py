"""Packed tokens: the real tokens of padded rows side by side, and the attention masks of the rows.

Only attention works on padded rows; everything else runs on packed tokens alone. Inside `padding_kept`,
padding counts as tokens that no other token sees, so that no shape depends on values: a model can then be
traced into a graph.

Shapes: B sequences, L padded row length, M packed tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor

# Rows share a group as long as the shortest of them has this share of the longest row's tokens.
MIN_LENGTH_RATIO = 0.7

_keeps_padding = ContextVar("_keeps_padding", default=False)


@contextmanager
def padding_kept() -> Iterator[None]:
    """Keep padding among the packed tokens of all layouts that are built in the block.

    Results at real tokens are the same, apart from rounding; those at padding have no meaning.
    """
    token = _keeps_padding.set(True)
    try:
        yield
    finally:
        _keeps_padding.reset(token)


def keeps_padding() -> bool:
    """Return True inside `padding_kept`."""
    return _keeps_padding.get()


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor of the host to a device without waiting for the device."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


@dataclass(frozen=True)
class Rows:
    """M real tokens in B padded rows of length L.

    Attributes:
        rows: B.
        length: L.
        indices: int64 [M], flat index into B·L of each real token; None if there is no padding.
    """

    rows: int
    length: int
    indices: Tensor | None

    def pack(self, x: Tensor) -> Tensor:
        """Return the real tokens of padded rows: [B, L, ...] → [M, ...]."""
        x = x.flatten(0, 1)  # [B·L, ...]
        return x if self.indices is None else x.index_select(0, self.indices)

    def pad(self, x: Tensor) -> Tensor:
        """Return packed tokens as padded rows, zero at padding: [M, ...] → [B, L, ...]."""
        if self.indices is not None:
            x = x.new_zeros((self.rows * self.length, *x.shape[1:])).index_copy(0, self.indices, x)
        return x.unflatten(0, (self.rows, self.length))


@dataclass(frozen=True)
class Group(Rows):
    """Neighboring rows of similar length, with their attention mask.

    Attributes:
        tokens: M, the number of real tokens of the group.
        mask: attention mask, bool [B or 1, 1, L or 1, L], False where a query (third dimension) must not see
            a key (last dimension); None if every token sees all others.
    """

    tokens: int
    mask: Tensor | None


@dataclass(frozen=True)
class Layout(Rows):
    """Positions and attention masks of the packed tokens of one forward pass.

    Attributes:
        real: padding mask, bool [B, L], False at padding; None if there is no padding.
        position: int64 [M], position id of each packed token.
        groups: consecutive groups of rows; attention pads each group to its own longest row.
    """

    real: Tensor | None
    position: Tensor
    groups: tuple[Group, ...]

    @staticmethod
    def unpadded(rows: int, length: int, device: torch.device) -> Layout:
        """Return the layout of rows without padding, in which each token sees all tokens of its row."""
        group = Group(rows, length, None, rows * length, None)
        return Layout(rows, length, None, None, torch.arange(length, device=device).repeat(rows), (group,))

    @staticmethod
    def bidirectional(real: Tensor, device: torch.device | None = None) -> Layout:
        """Return the layout in which each token sees all real tokens of its row.

        Args:
            real: padding mask, bool [B, L], False at padding. The number of real tokens decides shapes, so a
                padding mask on the GPU makes the host wait for the GPU; one on the host does not.
            device: device of the layout; None for the device of `real`.
        """
        return Layout._build(real, torch.arange(real.shape[1]), None, device)

    @staticmethod
    def causal(real: Tensor, tokens_per_item: int, device: torch.device | None = None) -> Layout:
        """Return the layout in which a token sees the items before its own item, and its own item.

        Args:
            real: padding mask [B, L], as for `bidirectional`.
            tokens_per_item: P.
            device: device of the layout; None for the device of `real`.
        """
        position = torch.arange(real.shape[1])
        item = position // tokens_per_item
        return Layout._build(real, position, item[:, None] >= item, device)

    @staticmethod
    def two_streams(real: Tensor, tokens_per_item: int, device: torch.device | None = None) -> Layout:
        """Return the layout of two streams in a row of 2·L tokens: clean items, then the same items masked.

        A token of either stream sees the clean items before its own item, and its own item in its own stream.
        Each noisy item is therefore predicted from a clean past, and no clean item sees a later item.

        Args:
            real: padding mask [B, L] of one stream, as for `bidirectional`.
            tokens_per_item: P.
            device: device of the layout; None for the device of `real`.
        """
        L = real.shape[1]
        position = torch.arange(L).repeat(2)
        item, clean = position // tokens_per_item, torch.arange(2 * L) < L
        past = clean & (item[:, None] > item)  # [2·L, 2·L]
        same_item = (item[:, None] == item) & (clean[:, None] == clean)  # [2·L, 2·L]
        return Layout._build(real.repeat(1, 2), position, past | same_item, device)

    @staticmethod
    def _build(real: Tensor, position: Tensor, mask: Tensor | None, device: torch.device | None) -> Layout:
        """Build the layout from a padding mask [B, L], position ids [L] and an attention mask [L, L].

        Position ids and attention mask are on the host. Without an attention mask, every token
        sees all others.
        """
        device = device or real.device
        if keeps_padding():
            return Layout._with_padding(real.to(device), position.to(device), mask)
        rows, length = real.shape
        if bool(real.all()):
            positions = to_device(position, device).repeat(rows)
            return Layout(rows, length, None, None, positions, (_group(real, mask, device),))
        groups = tuple(
            _group(real[rows][:, columns], None if mask is None else mask[columns][:, columns], device)
            for rows, columns in _rows_and_columns(real)
        )
        position = to_device(position, device)
        indices = _flat_indices(real, device)
        return Layout(rows, length, indices, to_device(real, device), position[indices % length], groups)

    @staticmethod
    def _with_padding(real: Tensor, position: Tensor, mask: Tensor | None) -> Layout:
        """Build the layout of `_build` in which padding counts as tokens that see themselves too, and that no
        other token sees.
        """
        (rows, length), keys = real.shape, real[:, None, None, :]
        place = torch.arange(length, device=real.device)
        itself = place[:, None] == place  # [L, L]
        mask = keys | itself if mask is None else keys & mask.to(real.device) | itself  # [B, 1, L, L]
        group = Group(rows, length, None, rows * length, mask)
        return Layout(rows, length, None, real, position.repeat(rows), (group,))

    def index(self, position: Tensor) -> Tensor:
        """Convert flat indices into B·L of real tokens to indices into the M packed tokens."""
        return position if self.indices is None else torch.searchsorted(self.indices, position)


def _rows_and_columns(real: Tensor) -> list[tuple[slice, Tensor | slice]]:
    """Return the rows of each group, and the columns in which not all of these rows are padding.

    A group ends where all later rows are shorter than `MIN_LENGTH_RATIO` times its longest row. Rows that are
    sorted by length, longest first, as in training, therefore leave little padding. Rows without real tokens
    at the end belong to no group. If the padding mask is not on the host, all rows form one group, because
    more groups would make the host wait for the device.

    Args:
        real: padding mask, bool [B, L].
    """
    everything: list[tuple[slice, Tensor | slice]] = [(slice(None), slice(None))]
    if real.device.type != "cpu":
        return everything
    longest = real.sum(1).flip(0).cummax(0).values.flip(0)  # [B], the longest of a row and all later rows
    groups: list[tuple[slice, Tensor | slice]] = []
    first = 0
    while first < len(real) and longest[first]:
        rows = slice(first, int((longest >= MIN_LENGTH_RATIO * longest[first]).sum()))
        groups.append((rows, real[rows].any(0).nonzero().squeeze(1)))
        first = rows.stop
    return groups or everything


def _group(real: Tensor, mask: Tensor | None, device: torch.device) -> Group:
    """Return the group of rows with a padding mask [B, L] and an attention mask [L, L]."""
    rows, length = real.shape
    mask = None if mask is None else to_device(mask, device)
    if bool(real.all()):
        return Group(rows, length, None, rows * length, None if mask is None else mask[None, None])
    indices = _flat_indices(real, device)
    keys = to_device(real, device)[:, None, None, :]  # [B, 1, 1, L]
    if mask is None:
        return Group(rows, length, indices, len(indices), keys)
    # A padding token sees itself, so that no row of the softmax is empty.
    mask = keys & mask | torch.eye(length, dtype=torch.bool, device=device)  # [B, 1, L, L]
    return Group(rows, length, indices, len(indices), mask)


def _flat_indices(real: Tensor, device: torch.device) -> Tensor:
    """Return the flat indices of real tokens: bool [B, L] → int64 [M]."""
    return to_device(real.flatten().nonzero().squeeze(1), device)
