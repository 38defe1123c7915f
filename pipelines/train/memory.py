"""Check of the memory that training a model needs, before the model is built. Light to import."""

from __future__ import annotations

import os

from pipelines.errors import UserError
from pipelines.models.config import ModelConfig
from pipelines.train.config import TrainConfig

BYTES_PER_PARAMETER = 16  # in training: the parameter, its gradient and the optimizer's two moments
MIN_MICRO_TOKENS = 2048  # tokens in one forward pass without --micro-tokens, at least


def check_memory(model_settings: ModelConfig, train: TrainConfig, items: int = 0) -> None:
    """Refuse a model that needs more memory than the machine has and more than its largest GPU has.

    The need is a lower bound: the parameters in training and the activations of one forward pass through the
    blocks.

    Args:
        items: number of items of the catalogue; 0 if it is not known yet.

    Raises:
        UserError: The memory does not suffice. The message names the need and the memory of the machine.
    """
    parameters = model_settings.least_parameters(items)
    tokens = min(train.micro_tokens or MIN_MICRO_TOKENS, train.batch_size * model_settings.window)
    per_token = model_settings.layers * (4 * model_settings.width + model_settings.mlp)
    need = BYTES_PER_PARAMETER * parameters + 4 * tokens * per_token
    if need <= _memory() or need <= _largest_gpu():
        return
    raise UserError(
        f"A model with --layers {model_settings.layers}, --width {model_settings.width} and "
        f"--mlp {model_settings.mlp} has at least {parameters / 1e6:,.0f} M parameters and needs at least "
        f"{need / 2**30:,.0f} GiB to train on {tokens:,} tokens at a time; this machine has "
        f"{_memory() / 2**30:,.0f} GiB. Lower them, or --micro-tokens."
    )


def _memory() -> float:
    """Return the machine's memory in bytes; infinity if the system does not report it."""
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", ()):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return float("inf")


def _largest_gpu() -> float:
    """Return the memory of the largest GPU in bytes; 0 without a GPU."""
    import torch  # slow to import, and needed only for models that exceed the machine's memory

    return max(
        (
            torch.cuda.get_device_properties(number).total_memory
            for number in range(torch.cuda.device_count())
        ),
        default=0,
    )
