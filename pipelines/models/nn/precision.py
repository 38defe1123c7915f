"""In which precision matrix products run. Weights, optimiser and scores stay float32."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from pipelines.models.config import PRECISIONS
from pipelines.options import check_choice

NARROW = 128  # below this width blocks stay in float32 on a CPU


def uses_bf16(precision: str, device: torch.device) -> bool:
    """Whether "auto", "fp32" or "bf16" means bfloat16 on this device: auto does where the hardware multiplies it faster.

    Raises:
        UserError: another word.
    """
    check_choice("--precision", precision, PRECISIONS)
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """A context in which matrix products run in that precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=uses_bf16(precision, device))


def in_float32(device: torch.device) -> AbstractContextManager:
    """A context in which matrix products run in float32 whatever the precision around it: scores need all digits, or many tie."""
    return (
        torch.autocast(device.type, enabled=False)
        if torch.is_autocast_enabled(device.type)
        else nullcontext()
    )


def narrow_in_float32(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method of blocks, of their input first, that runs in float32 on a CPU where the blocks are narrower than `NARROW`.

    Their products are then so small that the conversions cost more than bfloat16 spares: a training step of 64 wide
    takes 0.83 of the time, one of 128 wide 1.06.
    """

    @wraps(method)
    def run(self: Any, x: Tensor, *given: Any) -> Any:
        if x.device.type != "cpu" or self.width >= NARROW:
            return method(self, x, *given)
        with in_float32(x.device):
            return method(self, x.float(), *given)

    return run
