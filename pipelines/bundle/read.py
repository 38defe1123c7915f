"""Loading of a bundle.

Shapes: N items.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pipelines import artifacts
from pipelines.bundle.manifest import POPULARITY, dataset_of, read_manifest, run_of
from pipelines.data.catalogue import load_catalogue, sources
from pipelines.models.loading import TrainedRun, build, load, rank_new_items, set_dense_weight
from pipelines.models.registry import model_config
from pipelines.workspace import Run


@dataclass(frozen=True, eq=False)
class Counts:
    """What a bundle holds in place of the users' sequences.

    Attributes:
        interactions: number of interactions of each item, int64 [N].
        warm: items with a training interaction, ascending, int64.
    """

    interactions: np.ndarray
    warm: np.ndarray


@dataclass(frozen=True, eq=False)
class Bundle:
    """A loaded bundle.

    Attributes:
        run: paths of the run's files in the bundle.
        trained: the model with its catalogue.
        counts: interactions of the items.
    """

    run: Run
    trained: TrainedRun
    counts: Counts


def load_bundle(folder: Path, device: torch.device) -> Bundle:
    """Load a bundle. No code of the bundle runs.

    Raises:
        UserError: a file of the bundle is missing, or is not the one that was exported.
    """
    manifest = read_manifest(folder)
    run, dataset = run_of(folder, manifest["run"]), dataset_of(folder, manifest["dataset"])
    recorded = run.read_config()
    config, sids = model_config(recorded["model"], recorded["model_settings"]), recorded["sids"]
    catalogue = load_catalogue(dataset, sids, config.needs)
    inputs = {**sources(dataset, sids, config.needs), "weights": run.weights}
    del inputs["sequences"]
    model = build(config, catalogue)
    load(model, run.weights)
    set_dense_weight(model, recorded)
    table = artifacts.read(folder / POPULARITY, "popularity")
    new_items = np.flatnonzero(~table["trained"].to_numpy())
    rank_new_items(model, new_items, catalogue, inputs.get("sids"))
    counts = Counts(table["interactions"].to_numpy(), np.flatnonzero(table["warm"].to_numpy()))
    model = model.to(device).eval()
    return Bundle(run, TrainedRun(model, catalogue, dataset, inputs, recorded["train"], new_items), counts)
