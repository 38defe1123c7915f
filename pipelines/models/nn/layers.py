"""Parts of the transformer blocks: rotary positions, attention, dropout.

Shapes: B sequences, L padded row length, M packed tokens, D width, A heads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.models.nn.packing import Group

Rotation = tuple[Tensor, Tensor]  # cosines and signed sines of rotary positions
KeysValues = tuple[Tensor, Tensor]  # keys and values of one block


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


class Dropout(nn.Module):
    """Dropout.

    A CPU draws 16 random bits per element, which is two to three times as fast as PyTorch's dropout (`python
    -m benchmarks.attention`).
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """In training, set a share `rate` of x to zero and scale up the rest. In evaluation, return x."""
        if not self.training or not self.rate:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.rate)
        # An int64 holds four draws of 16 bits.
        words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        draws = words.view(torch.int16)[: x.numel()].view(x.shape)
        kept = draws >= round(self.rate * 2**16) - 2**15
        return x * kept.to(x.dtype).mul_(1 / (1 - self.rate))
