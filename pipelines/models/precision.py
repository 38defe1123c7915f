"""In which precision matrix products run. Weights, optimiser and scores stay float32."""

from __future__ import annotations

import torch

from pipelines.errors import UserError

PRECISIONS = ("auto", "fp32", "bf16")


def uses_bf16(precision: str, device: torch.device) -> bool:
    """Whether "auto", "fp32" or "bf16" means bfloat16 on this device: auto does where the hardware multiplies it faster.

    Raises:
        UserError: another word.
    """
    if precision not in PRECISIONS:
        raise UserError(f"--precision {precision!r} is unknown; choose {', '.join(PRECISIONS)}.")
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """A context in which matrix products run in that precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=uses_bf16(precision, device))
