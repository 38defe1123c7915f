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
from pipelines.formats import trainings
from pipelines.models.built import Assembled, Recorded
from pipelines.models.loading import TrainedRun, load, set_dense_weight
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
    parts = [Recorded.of(dataset, training) for training in trainings(recorded)]
    assembled = Assembled.of(parts, recorded)
    inputs = {**assembled.inputs, "weights": run.weights}
    del inputs["sequences"]
    load(assembled.model, run.weights)
    set_dense_weight(assembled.model, recorded)
    table = artifacts.read(folder / POPULARITY, "popularity")
    new_items = np.flatnonzero(~table["trained"].to_numpy())
    assembled.rank_new_items(new_items)
    counts = Counts(table["interactions"].to_numpy(), np.flatnonzero(table["warm"].to_numpy()))
    model, training = assembled.model.to(device).eval(), recorded["train"]
    trained = TrainedRun(model, assembled.catalogue, dataset, inputs, training, new_items)
    return Bundle(run, trained, counts)
