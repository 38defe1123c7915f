"""Whether a model can be trained in this machine's memory, told before it is built. Light to import."""

from __future__ import annotations

import os

from pipelines.errors import UserError
from pipelines.models.config import ModelConfig
from pipelines.train.config import TrainConfig

BYTES = 16  # of a parameter in training: itself, its gradient and the two moments of the optimiser
PASS = 2048  # tokens in one forward pass where --micro-tokens says nothing, at least


def check_memory(model_settings: ModelConfig, train: TrainConfig, items: int = 0) -> None:
    """Refuse a model that takes more memory than this machine, or one of its GPUs, has: by the least that its blocks need.

    Args:
        items: of the catalogue; 0 where it is not known yet.

    Raises:
        UserError: naming what it needs and what there is.
    """
    parameters = model_settings.least_parameters(items)
    tokens = min(train.micro_tokens or PASS, train.batch_size * model_settings.window)
    need = BYTES * parameters + 4 * tokens * model_settings.layers * (
        4 * model_settings.width + model_settings.mlp
    )
    if need <= _memory() or need <= _largest_gpu():
        return
    raise UserError(
        f"A model with --layers {model_settings.layers}, --width {model_settings.width} and --mlp {model_settings.mlp} has at least {parameters / 1e6:,.0f} M "
        f"parameters and needs at least {need / 2**30:,.0f} GiB to train on {tokens:,} tokens at a time; this machine has "
        f"{_memory() / 2**30:,.0f} GiB. Lower them, or --micro-tokens."
    )


def _memory() -> float:
    """Bytes of memory; without bound where the system does not say."""
    return (
        os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", ())
        else float("inf")
    )


def _largest_gpu() -> float:
    import torch  # slow to import, and needed only for models that a processor's memory does not hold

    return max(
        (
            torch.cuda.get_device_properties(number).total_memory
            for number in range(torch.cuda.device_count())
        ),
        default=0,
    )
