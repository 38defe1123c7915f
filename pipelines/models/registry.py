"""Models built from their configuration and stored as safetensors."""

from __future__ import annotations

import importlib
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from pipelines import artifacts
from pipelines.errors import UserError, reading
from pipelines.models.catalogue import Catalogue
from pipelines.models.config import ModelConfig
from pipelines.models.interface import Recommender


def build(config: ModelConfig, catalogue: Catalogue) -> Recommender:
    """A new model over a catalogue that has what the model needs.

    Raises:
        UserError: it does not fit into the memory.
    """
    module, name = config.implementation.split(":")
    try:
        return getattr(importlib.import_module(module), name)(config, catalogue)
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, RuntimeError) and "allocate" not in str(error):  # torch's words for it on a CPU
            raise
        raise UserError("The model does not fit into the memory. Take a smaller --width, --mlp or --layers.") from None


def save(model: torch.nn.Module, path: Path) -> None:
    """Write the weights, atomically."""
    with artifacts.atomic(path, SafetensorError) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, temporary)


def load(model: torch.nn.Module, path: Path) -> None:
    """Read the weights into `model`.

    Raises:
        UserError: the file is missing, unreadable, or its tensors are not the model's.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist. Train the run again: `maskgr train --force`.")
    with reading(path, "safetensors file", "Train the run again: `maskgr train --force`."):
        weights = load_file(path)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    for name in sorted({*expected, *found}):
        if expected.get(name) != found.get(name):
            raise UserError(
                f"{path} does not fit the run's config.json: {name} is {found.get(name, 'missing')} in the file, "
                f"{expected.get(name, 'unknown')} in the model. Train the run again: `maskgr train --force`."
            )
    model.load_state_dict(weights)
