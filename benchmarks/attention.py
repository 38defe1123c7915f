"""Time of maskgr's attention and dropout on the CPU (`models.nn`) against PyTorch's, forward and
backward: the reason why maskgr has its own.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from maskgr_cli import console
from maskgr_cli.allocator import keep_freed_memory
from pipelines import artifacts
from pipelines.models.nn.attention import attention
from pipelines.models.nn.dropout import Dropout

SHAPES = (  # rows, heads, tokens, width of a head
    (60, 4, 8, 16),
    (20, 4, 26, 16),
    (4, 4, 100, 16),
    (120, 8, 35, 16),
    (60, 4, 70, 32),
    (16, 4, 250, 32),
)
RATE = 0.1  # of dropout


def milliseconds(work: Callable[[], Tensor], rounds: int = 30) -> float:
    """Return the median time of a forward and a backward pass."""
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        work().sum().backward()
        times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times[rounds // 3 :])


def _fused(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, gradient: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask) * gradient


def _plain(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, gradient: Tensor) -> Tensor:
    return attention(q, k, v, mask) * gradient


def main() -> None:
    keep_freed_memory()
    rows = []
    for dtype in (torch.float32, torch.bfloat16):
        for B, A, L, d in SHAPES:
            q, k, v = (torch.randn(B, A, L, d, dtype=dtype, requires_grad=True) for _ in range(3))
            mask, gradient = torch.ones(B, 1, 1, L, dtype=torch.bool), torch.randn(B, A, L, d, dtype=dtype)
            fused = milliseconds(partial(_fused, q, k, v, mask, gradient))
            plain = milliseconds(partial(_plain, q, k, v, mask, gradient))
            name = f"attention, {str(dtype).removeprefix('torch.')}, {B} × {A} heads × {L} tokens × {d}"
            rows.append((name, f"{fused:.1f}", f"{plain:.1f}", f"{fused / plain:.1f}×"))
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.randn(4096, 128, dtype=dtype, requires_grad=True)
        builtin, own = milliseconds(partial(F.dropout, x, RATE)), milliseconds(partial(Dropout(RATE), x))
        name = f"dropout, {str(dtype).removeprefix('torch.')}, 4096 × 128"
        rows.append((name, f"{builtin:.1f}", f"{own:.1f}", f"{builtin / own:.1f}×"))
    columns = ["", "PyTorch", "maskgr", "ratio"]
    console.table("Milliseconds, forward and backward", columns, rows, artifacts.machine())


if __name__ == "__main__":
    main()
