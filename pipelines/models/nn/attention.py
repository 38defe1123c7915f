"""Scaled dot-product attention of padded rows, and of packed tokens.

Shapes: B sequences, L padded row length, M packed tokens, D width, A heads.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.models.nn.packing import Group

KeysValues = tuple[Tensor, Tensor]  # keys and values of one block


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Compute scaled dot-product attention.

    A GPU runs PyTorch's fused kernel. A CPU runs plain matrix products and adds the mask, which measured
    about as fast in float32 and 2 to 9 times as fast in bfloat16 at the lengths of histories (`python -m
    benchmarks.attention`).

    Args:
        q: queries [B, A, L, D/A].
        k: keys [B, A, L', D/A].
        v: values [B, A, L', D/A].
        mask: bool, broadcast to [B, A, L, L'], False where a query must not see a key.

    Returns:
        [B, A, L, D/A].
    """
    if q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    weights = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)  # [B, A, L, L']
    if mask is not None:
        weights = weights + weights.new_zeros(mask.shape).masked_fill_(~mask, -torch.inf)
    return weights.softmax(-1) @ v


def group_attention(group: Group, qk: Tensor, v: Tensor) -> Tensor:
    """Compute attention among the packed tokens of a group's rows.

    Args:
        group: M tokens in B rows.
        qk: queries and keys [M, 2, A, D/A].
        v: values [M, A, D/A].

    Returns:
        [M, A, D/A].
    """
    q, k = group.pad(qk).permute(2, 0, 3, 1, 4)  # [B, A, L, D/A] each
    values = group.pad(v).transpose(1, 2)  # [B, A, L, D/A]
    y = attention(q, k, values, group.mask)  # [B, A, L, D/A]
    return group.pack(y.transpose(1, 2))
