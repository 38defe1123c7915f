"""Where the real tokens of padded rows lie, and who sees whom.

Shapes: B sequences, L tokens in a row with its padding, T real tokens in all.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

ALIKE = 0.7  # of the longest row's length: how short the shortest of a group may be


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on a device, without waiting for the device."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


@dataclass(frozen=True)
class Rows:
    """T real tokens that lie in B rows of L.

    Attributes:
        rows: B.
        length: L.
        where: int64 [T], flat index into B·L of each real token; None where there is no padding.
    """

    rows: int
    length: int
    where: Tensor | None

    def pack(self, x: Tensor) -> Tensor:
        """[B, L, ...] → [T, ...]."""
        x = x.flatten(0, 1)
        return x if self.where is None else x.index_select(0, self.where)

    def pad(self, x: Tensor) -> Tensor:
        """[T, ...] → [B, L, ...], zero at padding."""
        if self.where is not None:
            x = x.new_zeros((self.rows * self.length, *x.shape[1:])).index_copy(0, self.where, x)
        return x.unflatten(0, (self.rows, self.length))


@dataclass(frozen=True)
class Group(Rows):
    """Rows of like length, whose tokens come one after another, and who sees whom among them.

    Attributes:
        tokens: T.
        mask: bool, [B or 1, 1, L or 1, L], False where a query (third) must not see a key (last); None where all see all.
    """

    tokens: int
    mask: Tensor | None


@dataclass(frozen=True)
class Layout(Rows):
    """Where the tokens of a forward pass lie. Only attention needs rows; all else runs on the real tokens alone.

    Attributes:
        real: bool [B, L], False at padding; None where there is none.
        position: int64 [T], the position of each token in its row.
        groups: the rows in groups of like length, for attention: each is padded to its own longest row.
    """

    real: Tensor | None
    position: Tensor
    groups: tuple[Group, ...]

    @staticmethod
    def whole(rows: int, length: int, device: torch.device) -> Layout:
        """Rows without padding; each token sees all of its row."""
        group = Group(rows, length, None, rows * length, None)
        return Layout(rows, length, None, None, torch.arange(length, device=device).repeat(rows), (group,))

    @staticmethod
    def of(real: Tensor, device: torch.device | None = None) -> Layout:
        """Tokens [B, L] that are real where `real` is True; each sees all real ones.

        Args:
            real: on the host where a GPU shall not be waited for: how many tokens are real decides shapes.
            device: of the layout; None takes that of `real`.
        """
        return Layout._of(real, torch.arange(real.shape[1]), None, device)

    @staticmethod
    def causal(real: Tensor, H: int, device: torch.device | None = None) -> Layout:
        """Items of H tokens each, [B, L]; a token sees the items before its own, and its own."""
        position = torch.arange(real.shape[1])
        item = position // H
        return Layout._of(real, position, item[:, None] >= item, device)

    @staticmethod
    def two_streams(real: Tensor, H: int, device: torch.device | None = None) -> Layout:
        """Items of H tokens each, clean and then noisy: rows of 2·L tokens for `real` [B, L].

        Tokens of either stream see the clean items before their own, and their own item in their own stream, so that
        each noisy item is predicted from a clean past and no clean item sees what follows it.
        """
        L = real.shape[1]
        position = torch.arange(L).repeat(2)
        item, clean = position // H, torch.arange(2 * L) < L
        before = clean & (item[:, None] > item)
        own = (item[:, None] == item) & (clean[:, None] == clean)
        return Layout._of(real.repeat(1, 2), position, before | own, device)

    @staticmethod
    def _of(real: Tensor, position: Tensor, sees: Tensor | None, device: torch.device | None) -> Layout:
        """A layout from who is real [B, L], at which position a column is [L] and which it sees [L, L] (None: all); both on the host."""
        device = device or real.device
        groups = tuple(
            _group(real[rows][:, columns], sees if sees is None else sees[columns][:, columns], device)
            for rows, columns in _alike(real)
        )
        position = to_device(position, device)
        if bool(real.all()):
            return Layout(*real.shape, None, None, position.repeat(len(real)), groups)
        where = _places(real, device)
        return Layout(*real.shape, where, to_device(real, device), position[where % real.shape[1]], groups)

    def index(self, position: Tensor) -> Tensor:
        """Flat indices into B·L of real tokens → indices into T."""
        return position if self.where is None else torch.searchsorted(self.where, position)


def _alike(real: Tensor) -> list[tuple[slice, Tensor | slice]]:
    """Cut rows [B, L] into groups of like length: the rows of each and its columns, those that are not padding in all of its rows.

    A group ends where all rows that follow are shorter than `ALIKE` of its longest, so that rows sorted by length, longest first, as
    training has them, leave little padding; others leave what they must. Rows without tokens are left out. On a device that would
    be waited for all rows are one group.
    """
    if real.device.type != "cpu":
        return [(slice(None), slice(None))]
    longest = real.sum(1).flip(0).cummax(0).values.flip(0)  # of a row and all that follow
    groups, first = [], 0
    while first < len(real) and longest[first]:
        rows = slice(first, int((longest >= ALIKE * longest[first]).sum()))
        groups.append((rows, real[rows].any(0).nonzero().squeeze(1)))
        first = rows.stop
    return groups or [(slice(None), slice(None))]


def _group(real: Tensor, sees: Tensor | None, device: torch.device) -> Group:
    """Rows [B, L], the keys that each column sees [L, L]."""
    whole = bool(real.all())
    where, seen = None if whole else _places(real, device), sees if sees is None else to_device(sees, device)
    if whole:
        mask = seen if seen is None else seen[None, None]
    else:
        mask = to_device(real, device)[:, None, None, :]
        if seen is not None:  # padding sees itself, so that no row of the softmax is empty
            mask = mask & seen | torch.eye(len(seen), dtype=torch.bool, device=device)
    return Group(*real.shape, where, real.numel() if where is None else len(where), mask)


def _places(real: Tensor, device: torch.device) -> Tensor:
    """Flat indices [T] of what is real."""
    return to_device(real.flatten().nonzero().squeeze(1), device)
