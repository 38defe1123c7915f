"""Where the real tokens of padded rows lie, and who sees whom.

Shapes: B sequences, L tokens in a row with its padding, T real tokens in all.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def put(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on a device, without waiting for the device."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


@dataclass(frozen=True)
class Layout:
    """Where T real tokens lie in B rows of L. Only attention needs the rows; all else runs on the real tokens alone.

    Attributes:
        rows: B.
        length: L.
        where: int64 [T], flat index into B·L of each real token; None where there is no padding.
        mask: bool, [B or 1, 1, L or 1, L], False where a query (third) must not see a key (last); None where all see all.
        position: int64 [L], the position of each token of a row.
    """

    rows: int
    length: int
    where: Tensor | None
    mask: Tensor | None
    position: Tensor

    @staticmethod
    def whole(rows: int, length: int, device: torch.device) -> Layout:
        """Rows without padding; each token sees all of its row."""
        return Layout(rows, length, None, None, torch.arange(length, device=device))

    @staticmethod
    def of(real: Tensor, device: torch.device | None = None) -> Layout:
        """Tokens [B, L] that are real where `real` is True; each sees all real ones.

        Args:
            real: on the host where a GPU shall not be waited for: how many tokens are real decides shapes.
            device: of the layout; None takes that of `real`.
        """
        device = device or real.device
        if bool(real.all()):
            return Layout.whole(*real.shape, device)
        return Layout(*real.shape, _places(real, device), put(real, device)[:, None, None, :], torch.arange(real.shape[1], device=device))

    @staticmethod
    def causal(real: Tensor, H: int, device: torch.device | None = None) -> Layout:
        """Items of H tokens each, [B, L]; a token sees the items before its own, and its own."""
        position = torch.arange(real.shape[1], device=device or real.device)
        item = position // H
        return Layout._of_items(real, item[:, None] > item, item[:, None] == item, position)

    @staticmethod
    def two_streams(real: Tensor, H: int, device: torch.device | None = None) -> Layout:
        """Items of H tokens each, clean and then noisy: rows of 2·L tokens for `real` [B, L].

        Tokens of either stream see the clean items before their own, and their own item in their own stream, so that
        each noisy item is predicted from a clean past and no clean item sees what follows it.
        """
        L, device = real.shape[1], device or real.device
        position = torch.arange(L, device=device).repeat(2)
        item, clean = position // H, torch.arange(2 * L, device=device) < L
        before = clean & (item[:, None] > item)
        own = (item[:, None] == item) & (clean[:, None] == clean)
        return Layout._of_items(real.repeat(1, 2), before, own, position)

    @staticmethod
    def _of_items(real: Tensor, before: Tensor, own: Tensor, position: Tensor) -> Layout:
        """A layout from which item sees which, [L, L] each; padding sees itself, so that no row of the softmax is empty."""
        if bool(real.all()):
            return Layout(*real.shape, None, (before | own)[None, None], position)
        mask = (before & put(real, position.device)[:, None, :]) | own  # [B, L, L]
        return Layout(*real.shape, _places(real, position.device), mask[:, None], position)

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


def _places(real: Tensor, device: torch.device) -> Tensor:
    """Flat indices [T] of what is real."""
    return put(real.flatten().nonzero().squeeze(1), device)
