"""Models built from their configuration and stored as safetensors."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from pipelines import artifacts, shapes
from pipelines.data.catalogue import Catalogue, load_catalogue, sources
from pipelines.errors import UserError, reading
from pipelines.models.base import Recommender
from pipelines.models.config import ModelConfig
from pipelines.models.registry import model_config
from pipelines.workspace import Dataset, Run, Workspace


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
        raise UserError(
            "The model does not fit into the memory. Take a smaller --width, --mlp or --layers."
        ) from None


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


@dataclass(frozen=True, eq=False)
class Trained:
    """A run's model with its best weights, and what it was trained on."""

    model: Recommender
    catalogue: Catalogue
    dataset: Dataset
    inputs: dict[str, Path]
    training: dict[str, Any]  # its hyperparameters

    @property
    def horizon(self) -> int:
        """Items k that it was trained to recommend at a time; others' targets may have trained it."""
        return self.training.get("horizon", 1)


def load_run(workspace: Workspace, run: Run, device: torch.device) -> Trained:
    """Load the best weights of a run.

    Raises:
        UserError: a file is missing or does not fit, or the run was trained on other artifacts than now lie there.
    """
    found = run.read_config()
    try:
        dataset, sids, model_settings = (
            workspace.require_dataset(found["dataset"]),
            found["sids"],
            model_config(found["model"], found["model_settings"]),
        )
        trained_on, training = (
            {name: source["sha256"] for name, source in found["inputs"].items()},
            found["train"],
        )
        shapes.fit(training.get("horizon", 1), int, "train.horizon")
    except (KeyError, shapes.Misfit) as error:
        raise UserError(
            f"{run.config} is not a run's configuration of this version ({error}). Train the run again."
        ) from None
    catalogue = load_catalogue(dataset, sids, model_settings.needs)
    inputs = sources(dataset, sids, model_settings.needs)
    for key, path in inputs.items():
        if trained_on.get(key) != artifacts.digest(path):
            raise UserError(
                f"{run.path} was trained on other {key} than {path} now holds. Train it again: `maskgr train --force`."
            )
    model = build(model_settings, catalogue)
    load(model, run.weights)
    if found.get("weights") not in (None, artifacts.digest(run.weights)):
        raise UserError(
            f"{run.weights} are not the weights that {run.config} tells of. Train the run again: `maskgr train --force`."
        )
    return Trained(model.to(device).eval(), catalogue, dataset, {**inputs, "weights": run.weights}, training)
