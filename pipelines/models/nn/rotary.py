"""Rotary position embeddings (Su et al. 2021, arXiv 2104.09864).

Shapes: M packed tokens, D width, A heads.
"""

from __future__ import annotations

import torch
from torch import Tensor

Rotation = tuple[Tensor, Tensor]  # cosines and signed sines of rotary positions


def rotary(position: Tensor, width: int, dtype: torch.dtype) -> Rotation:
    """Compute rotary position embeddings (Su et al. 2021, arXiv 2104.09864) for `apply_rotary`.

    The two halves of a vector rotate together. The sines of the first half are negated.

    Args:
        position: int64 [M], position ids.
        width: D/A.
        dtype: type of the result.

    Returns:
        Cosines and signed sines, [M, 1, 1, D/A] each.
    """
    frequency = 10000.0 ** (-torch.arange(0, width, 2, device=position.device, dtype=torch.float32) / width)
    angle = position[:, None, None, None] * frequency  # [M, 1, 1, D/A/2]
    cos, sin = angle.cos(), angle.sin()
    return torch.cat((cos, cos), dim=-1).to(dtype), torch.cat((-sin, sin), dim=-1).to(dtype)


def apply_rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate queries and keys [..., M, 2, A, D/A] to their positions."""
    left, right = x.chunk(2, dim=-1)
    return torch.addcmul(x * cos, torch.cat((right, left), dim=-1), sin)
