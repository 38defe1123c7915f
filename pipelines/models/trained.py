"""A trained run, ready to recommend."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipelines import artifacts, shapes
from pipelines.errors import UserError
from pipelines.models import registry
from pipelines.models.catalogue import Catalogue, load_catalogue, sources
from pipelines.models.configs import model_config
from pipelines.models.interface import Recommender
from pipelines.workspace import Dataset, Run, Workspace


@dataclass(frozen=True, eq=False)
class Trained:
    """A run's model with its best weights, and what it was trained on."""

    model: Recommender
    catalogue: Catalogue
    dataset: Dataset
    inputs: dict[str, Path]
    training: dict[str, Any]  # its hyperparameters

    @property
    def ahead(self) -> int:
        """Items k that it was trained to recommend at a time; others' targets may have trained it."""
        return self.training.get("next", 1)


def load_run(workspace: Workspace, run: Run, device: torch.device) -> Trained:
    """Load the best weights of a run.

    Raises:
        UserError: a file is missing or does not fit, or the run was trained on other artifacts than now lie there.
    """
    found = run.read_config()
    try:
        dataset, sids, sizes = workspace.require_dataset(found["dataset"]), found["sids"], model_config(found["model"], found["sizes"])
        trained_on, training = {name: source["sha256"] for name, source in found["inputs"].items()}, found["train"]
        shapes.fit(training.get("next", 1), int, "train.next")
    except (KeyError, shapes.Misfit) as error:
        raise UserError(f"{run.config} is not a run's configuration of this version ({error}). Train the run again.") from None
    catalogue = load_catalogue(dataset, sids, sizes.needs)
    inputs = sources(dataset, sids, sizes.needs)
    for key, path in inputs.items():
        if trained_on.get(key) != artifacts.digest(path):
            raise UserError(f"{run.path} was trained on other {key} than {path} now holds. Train it again: `maskgr train --force`.")
    model = registry.build(sizes, catalogue)
    registry.load(model, run.weights)
    if found.get("weights") not in (None, artifacts.digest(run.weights)):
        raise UserError(f"{run.weights} are not the weights that {run.config} tells of. Train the run again: `maskgr train --force`.")
    return Trained(model.to(device).eval(), catalogue, dataset, {**inputs, "weights": run.weights}, training)
