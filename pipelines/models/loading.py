"""Models built from their configuration, stored as safetensors, and loaded from runs."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from pipelines import artifacts, typed_json
from pipelines.data.catalogue import Catalogue, load_catalogue, sources
from pipelines.errors import UserError, reading
from pipelines.models.base import Recommender
from pipelines.models.config import ModelConfig
from pipelines.models.registry import model_config
from pipelines.workspace import Dataset, Run, Workspace

AGAIN = "Train the run again: `maskgr train --force`."


def build(config: ModelConfig, catalogue: Catalogue) -> Recommender:
    """Return a new model over a catalogue that holds what the model needs.

    Raises:
        UserError: the model does not fit into memory.
    """
    module, name = config.implementation.split(":")
    try:
        model: Recommender = getattr(importlib.import_module(module), name)(config, catalogue)
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, RuntimeError) and "allocate" not in str(error):  # PyTorch's message on a CPU
            raise
        raise UserError(
            "The model does not fit into memory. Take a smaller --width, --mlp or --layers."
        ) from None
    return model


def save(model: torch.nn.Module, path: Path) -> None:
    """Write the weights of a model, atomically."""
    with artifacts.atomic(path, SafetensorError) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, temporary)


def load(model: torch.nn.Module, path: Path) -> None:
    """Read weights into a model.

    Raises:
        UserError: the file is missing or unreadable, or its tensors are not the model's.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist. {AGAIN}")
    with reading(path, "safetensors file", AGAIN):
        weights = load_file(path)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    stored = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    for name in sorted({*expected, *stored}):
        if expected.get(name) != stored.get(name):
            raise UserError(
                f"{path} does not fit the run's config.json: {name} is {stored.get(name, 'missing')} in the "
                f"file, {expected.get(name, 'unknown')} in the model. {AGAIN}"
            )
    model.load_state_dict(weights)


@dataclass(frozen=True, eq=False)
class TrainedRun:
    """A run's model with its best weights, and what it was trained on.

    Attributes:
        model: in evaluation mode, on its device.
        catalogue: of the data set.
        dataset: data set of the run.
        inputs: files that the model depends on, by kind.
        training: hyperparameters of the training, by field of `TrainConfig`.
    """

    model: Recommender
    catalogue: Catalogue
    dataset: Dataset
    inputs: dict[str, Path]
    training: dict[str, Any]

    @property
    def horizon(self) -> int:
        """k, number of items that the model was trained to predict together."""
        horizon: int = self.training.get("horizon", 1)
        return horizon


def load_run(workspace: Workspace, run: Run, device: torch.device) -> TrainedRun:
    """Load a run with its best weights.

    Raises:
        UserError: a file is missing or does not fit, or artifacts that the run was trained on have changed.
    """
    recorded = run.read_config()
    try:
        dataset = workspace.require_dataset(recorded["dataset"])
        config = model_config(recorded["model"], recorded["model_settings"])
        digests = {name: source["sha256"] for name, source in recorded["inputs"].items()}
        sids, training = recorded["sids"], recorded["train"]
        typed_json.check(training.get("horizon", 1), int, "train.horizon")
    except (KeyError, typed_json.Mismatch) as error:
        raise UserError(
            f"{run.config} is not a run's configuration of this version ({error}). {AGAIN}"
        ) from None
    catalogue = load_catalogue(dataset, sids, config.needs)
    inputs = sources(dataset, sids, config.needs)
    for kind, path in inputs.items():
        if digests.get(kind) != artifacts.digest(path):
            raise UserError(f"{run.path} was trained on other {kind} than {path} now holds. {AGAIN}")
    model = build(config, catalogue)
    load(model, run.weights)
    if recorded.get("weights") not in (None, artifacts.digest(run.weights)):
        raise UserError(f"{run.weights} are not the weights that {run.config} records. {AGAIN}")
    return TrainedRun(
        model.to(device).eval(), catalogue, dataset, {**inputs, "weights": run.weights}, training
    )
