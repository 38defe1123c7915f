"""Weights of models, stored as safetensors, and models loaded from runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipelines import artifacts, typed_json
from pipelines.data import splits
from pipelines.data.catalogue import Catalogue, digests_of_items
from pipelines.data.groups import training_groups
from pipelines.data.sequences import Sequences
from pipelines.data.splits import Split
from pipelines.data.stored import StoredSequences
from pipelines.errors import UserError, reading
from pipelines.formats import trainings
from pipelines.models.base import DigitModel, Recommender
from pipelines.models.built import Assembled, Recorded
from pipelines.models.built import build as build
from pipelines.models.registry import model_config
from pipelines.processes import Processes
from pipelines.workspace import Dataset, Run, RunConfig, Workspace

ITEM_PARTS = {"sids": "semantic IDs", "embeddings": "embeddings"}  # kind of input → part of an item
AGAIN = "Train the run again: `maskgr train --force`."
MEMBERS_AGAIN = "Train its members again, then make it again: `maskgr ensemble --force`."


def save(model: Recommender, path: Path) -> None:
    """Write the weights of a model and its settings, atomically."""
    write_weights(path, model.state_dict(), model.config.settings)


def write_weights(path: Path, weights: Mapping[str, Tensor], settings: Mapping[str, Any]) -> None:
    """Write weights atomically, with the settings they are used with.

    What is made with a run records the digest of this file. Models that recommend otherwise with the same
    weights have other settings, and so another digest.

    Args:
        path: file to be written.
        weights: tensors by name.
        settings: values that JSON can hold, by name.
    """
    tensors = {name: tensor.contiguous() for name, tensor in weights.items()}
    with artifacts.atomic(path, SafetensorError) as temporary:
        save_file(tensors, temporary, {"settings": json.dumps(settings, sort_keys=True)})


def load(model: Recommender, path: Path) -> None:
    """Read weights into a model.

    Raises:
        UserError: the file is missing or unreadable, or its tensors are not the model's.
    """
    load_grown(model, path, np.arange(model.items))


def load_grown(model: Recommender, path: Path, known: np.ndarray) -> None:
    """Read weights over a part of the model's items into the model.

    The other items start as `Recommender.start_items` says.

    Args:
        model: model over N items.
        path: weights over N' of these items.
        known: the N' items in the order of the weights' rows, int64 [N'].

    Raises:
        UserError: the file is missing or unreadable, or its tensors are not the model's.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist. {AGAIN}")
    with reading(path, "safetensors file", AGAIN):
        weights = load_file(path)
    place_weights(model, weights, known, f"{path} does not")


def place_weights(
    model: Recommender, weights: dict[str, Tensor], known: np.ndarray, subject: str = "The weights do not"
) -> None:
    """Set the weights of a model to weights over a part of its items; see `load_grown`.

    A dimension with N' + e entries in the weights and N + e in the model has an entry for each item, and e
    entries after them, such as MASK or a row of padding; these stay at the end.

    Args:
        model: model over N items.
        weights: tensors by name, over N' of these items.
        known: the N' items in the order of the weights' rows, int64 [N'].
        subject: begin of the message about weights that are not the model's.

    Raises:
        UserError: the weights are not the model's.
    """
    items = torch.as_tensor(known)
    weights = model.spread(weights, items)
    own = model.state_dict()
    placed = {
        name: _placed(tensor, own[name], items, model.items) if name in own else tensor
        for name, tensor in weights.items()
    }
    expected = {name: tuple(tensor.shape) for name, tensor in own.items()}
    stored = {name: tuple(tensor.shape) for name, tensor in placed.items()}
    for name in sorted({*expected, *stored}):
        if expected.get(name) != stored.get(name):
            raise UserError(
                f"{subject} fit the run's config.json: {name} is {stored.get(name, 'missing')} in the "
                f"file, {expected.get(name, 'unknown')} in the model. {AGAIN}"
            )
    model.load_state_dict(placed)
    new = np.setdiff1d(np.arange(model.items), known)
    if len(new):
        model.start_items(torch.as_tensor(new))


def _placed(stored: Tensor, own: Tensor, known: Tensor, N: int) -> Tensor:
    """Return a stored tensor with its entries of items at their places in the model's own tensor."""
    growth = N - len(known)
    different = [
        axis
        for axis, (size, wanted) in enumerate(zip(stored.shape, own.shape, strict=False))
        if size != wanted
    ]
    if stored.ndim != own.ndim or len(different) != 1:
        return stored
    axis = different[0]
    extra = own.shape[axis] - N
    if extra < 0 or own.shape[axis] - stored.shape[axis] != growth:
        return stored
    entries = torch.cat((known, torch.arange(N, N + extra)))
    return own.detach().cpu().clone().index_copy_(axis, entries, stored.cpu())


@dataclass(frozen=True, eq=False)
class TrainedRun:
    """A run's model with its best weights, and what it was trained on.

    Attributes:
        model: in evaluation mode, on its device.
        catalogue: of the data set.
        dataset: data set of the run.
        inputs: files that the model depends on, by kind.
        training: hyperparameters of the training, by field of `TrainConfig`.
        new_items: items that the model was not trained on, because they came into the catalogue later or were
            left out (`--cold`); int64, ascending.
    """

    model: Recommender
    catalogue: Catalogue
    dataset: Dataset
    inputs: dict[str, Path]
    training: dict[str, Any]
    new_items: np.ndarray

    @property
    def horizon(self) -> int:
        """k, number of items that the model was trained to predict together."""
        horizon: int = self.training.get("horizon", 1)
        return horizon

    @property
    def is_cold(self) -> bool:
        """True if items were left out of the training (`--cold`)."""
        return bool(self.training.get("cold"))

    def training_sequences(self, sequences: Sequences) -> Sequences:
        """Return the part of the users' sequences that the run was trained on."""
        return splits.training(sequences, **self._held_out)

    def training_counts(self, stored: StoredSequences, processes: Processes) -> np.ndarray:
        """Count the training interactions of each item, int64 [N]; the processes share the work."""
        N = self.catalogue.items
        groups = training_groups(stored.groups, N, **self._held_out, processes=processes)
        return groups.item_counts(N, processes)

    def split(self, sequences: Sequences, name: str) -> Split:
        """Return the histories and targets of a split of the users' sequences, "test" or "validation"."""
        return splits.histories(sequences, name, **self._held_out)

    @property
    def _held_out(self) -> dict[str, Any]:
        return {
            "horizon": self.horizon,
            "cold": self.training.get("cold", 0.0),
            "seed": self.training.get("seed", 0),
        }


def load_run(
    workspace: Workspace, run: Run, device: torch.device, *, any_sequences: bool = False
) -> TrainedRun:
    """Load a run with its best weights.

    The catalogue may have grown since the training: new items after those that the run was trained on. A
    model over semantic IDs scores them by their codes, a model over item numbers ranks them last.

    Args:
        workspace: workspace of the run.
        run: the run.
        device: device of the model.
        any_sequences: if true, the data set may hold other sequences than the run was trained on.

    Raises:
        UserError: a file is missing or does not fit, or artifacts that the run was trained on have changed.
    """
    recorded = run.read_config()
    again = MEMBERS_AGAIN if "members" in recorded else AGAIN
    try:
        dataset = workspace.require_dataset(recorded["dataset"])
        training = recorded["train"]
        typed_json.check(training.get("horizon", 1), int, "train.horizon")
        typed_json.check(training.get("seed", 0), int, "train.seed")
        cold = training.get("cold", 0.0)
        typed_json.check(cold, float, "train.cold")
        for each in trainings(recorded):
            model_config(each["model"], each["model_settings"])
            _ = each["sids"], each["inputs"]
    except (KeyError, typed_json.Mismatch) as error:
        raise UserError(
            f"{run.config} is not a run's configuration of this version ({error}). {again}"
        ) from None
    parts = [Recorded.of(dataset, each) for each in trainings(recorded)]
    any_sequences = any_sequences and not cold  # the sequences decide which items were left out
    for part in parts:  # the members of a committee know the same items
        its = (part.training, dataset, part.catalogue, part.inputs)
        trained_items = check_inputs(run, *its, any_sequences=any_sequences, again=again)
    assembled = Assembled.of(parts, recorded)
    model, catalogue, known = assembled.model, assembled.catalogue, np.arange(trained_items)
    if cold:
        N, stored = catalogue.items, StoredSequences(dataset.sequences, catalogue.items)
        groups = training_groups(stored.groups, N, cold=cold, seed=training.get("seed", 0))
        known = np.flatnonzero(groups.item_counts(N, Processes()))
    load_grown(model, run.weights, known)
    set_dense_weight(model, recorded)
    if recorded.get("weights") not in (None, artifacts.digest(run.weights)):
        raise UserError(f"{run.weights} are not the weights that {run.config} records. {again}")
    new_items = np.setdiff1d(np.arange(catalogue.items), known)
    assembled.rank_new_items(new_items)
    inputs = {**assembled.inputs, "weights": run.weights}
    return TrainedRun(model.to(device).eval(), catalogue, dataset, inputs, training, new_items)


def set_dense_weight(model: Recommender, recorded: RunConfig) -> None:
    """Give a model the weight of the dense score that its run records; without one it keeps its default."""
    if isinstance(model, DigitModel) and "dense_weight" in recorded:
        model.dense_weight = recorded["dense_weight"]


def check_inputs(
    run: Run,
    recorded: RunConfig,
    dataset: Dataset,
    catalogue: Catalogue,
    inputs: dict[str, Path],
    *,
    any_sequences: bool = False,
    again: str = AGAIN,
) -> int:
    """Check that a data set holds what a run was trained on; new items may follow.

    Args:
        run: the run.
        recorded: content of its config.json.
        dataset: data set of the run.
        catalogue: catalogue of the data set.
        inputs: files that the model depends on, by kind.
        any_sequences: if true, the sequences may be others.
        again: end of a message, which says how to make the run again.

    Returns:
        Number of items that the run was trained on. They are the first ones of the catalogue.

    Raises:
        UserError: an artifact has changed, or the items that the run was trained on are not the first ones.
    """
    items, digests = recorded.get("items", catalogue.items), recorded.get("catalogue", {})
    changed = {
        kind: path
        for kind, path in inputs.items()
        if kind not in recorded["inputs"] or recorded["inputs"][kind]["sha256"] != artifacts.digest(path)
    }
    if items == catalogue.items and not changed:
        return items
    if any_sequences:  # the items must still be the same
        changed.pop("sequences", None)
    now = digests_of_items(catalogue, dataset, items)
    for kind, path in changed.items():
        part = ITEM_PARTS.get(kind, "")
        if part not in now or digests.get(part) != now[part]:
            raise UserError(f"{run.path} was trained on other {kind} than {path} now holds. {again}")
    moved = any(digests.get(part, sha256) != sha256 for part, sha256 in now.items())
    if moved or not digests or not 0 < items <= catalogue.items:
        raise UserError(
            f"{run.path} was trained on other items than {dataset.items} now begins with: new items must "
            f"follow the {items:,} old ones, which keep their numbers and codes, as with "
            f"`maskgr import --update`. {again}"
        )
    return items
