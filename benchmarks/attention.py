"""Why `models.transformer` has an attention and a dropout of its own on the CPU: each against PyTorch's, forward and backward."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from maskgr_cli import console
from maskgr_cli.allocator import keep_freed_memory
from pipelines import artifacts
from pipelines.models.nn.transformer import Dropout, attention


def milliseconds(work: Callable[[], Tensor], rounds: int = 30) -> float:
    """Median time of a forward and a backward pass."""
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        work().sum().backward()
        times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times[rounds // 3 :])


def main() -> None:
    keep_freed_memory()
    rows = []
    for dtype in (torch.float32, torch.bfloat16):
        for B, A, L, d in (
            (60, 4, 8, 16),
            (20, 4, 26, 16),
            (4, 4, 100, 16),
            (120, 8, 35, 16),
            (60, 4, 70, 32),
            (16, 4, 250, 32),
        ):
            q, k, v = (torch.randn(B, A, L, d, dtype=dtype, requires_grad=True) for _ in range(3))
            mask, given = (
                torch.ones(B, 1, 1, L, dtype=torch.bool),
                torch.randn(B, A, L, d, dtype=dtype),
            )  # a gradient
            fused = milliseconds(
                lambda q=q, k=k, v=v, m=mask, g=given: (
                    F.scaled_dot_product_attention(q, k, v, attn_mask=m) * g
                )
            )
            plain = milliseconds(lambda q=q, k=k, v=v, m=mask, g=given: attention(q, k, v, m) * g)
            name = f"attention, {str(dtype).removeprefix('torch.')}, {B} × {A} heads × {L} tokens × {d}"
            rows.append((name, f"{fused:.1f}", f"{plain:.1f}", f"{fused / plain:.1f}×"))
    ours = Dropout(0.1)
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.randn(4096, 128, dtype=dtype, requires_grad=True)
        torchs, own = milliseconds(lambda x=x: F.dropout(x, 0.1)), milliseconds(lambda x=x: ours(x))
        rows.append(
            (
                f"dropout, {str(dtype).removeprefix('torch.')}, 4096 × 128",
                f"{torchs:.1f}",
                f"{own:.1f}",
                f"{torchs / own:.1f}×",
            )
        )
    console.table(
        "Milliseconds, forward and backward", ["", "PyTorch's", "ours", "ratio"], rows, artifacts.machine()
    )


if __name__ == "__main__":
    main()
