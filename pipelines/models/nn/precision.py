"""Precision of matrix products. Weights, optimizer state and scores always stay float32."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

import torch
from torch import Tensor

from pipelines.models.config import PRECISIONS
from pipelines.options import check_choice

NARROW = 128  # on a CPU, blocks narrower than this run in float32


class _HasWidth(Protocol):
    width: int


Blocks = TypeVar("Blocks", bound=_HasWidth)
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def uses_bf16(precision: str, device: torch.device) -> bool:
    """Return true if a precision means bfloat16 on a device.

    Args:
        precision: "fp32", "bf16", or "auto": bfloat16 where the hardware multiplies it faster than float32.
        device: the device.

    Raises:
        UserError: another precision.
    """
    check_choice("--precision", precision, PRECISIONS)
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Return a context in which matrix products run in a precision, see `uses_bf16`."""
    return torch.autocast(device.type, torch.bfloat16, enabled=uses_bf16(precision, device))


def in_float32(device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which matrix products run in float32, whatever the precision around it.

    Scores need all digits of float32; with fewer, many scores would tie.
    """
    if torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def narrow_in_float32(
    method: Callable[Concatenate[Blocks, Tensor, Arguments], Result],
) -> Callable[Concatenate[Blocks, Tensor, Arguments], Result]:
    """Decorate a method of blocks to run in float32 on a CPU if the blocks are narrower than `NARROW`.

    Matrix products of narrow blocks are so small that the conversions cost more than bfloat16 saves. Relative
    to bfloat16, a training step in float32 takes 0.83 of the time at width 64, and 1.06 at width 128.

    Args:
        method: a method whose first argument is a tensor on the device of the blocks.
    """

    @wraps(method)
    def run(self: Blocks, x: Tensor, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        if x.device.type != "cpu" or self.width >= NARROW:
            return method(self, x, *args, **kwargs)
        with in_float32(x.device):
            return method(self, x.float(), *args, **kwargs)

    return run
