"""Export of a trained run into a bundle, a folder that other machines and programs load.

No interaction and no user leaves the workspace: a bundle has the number of interactions of each item in their
place, and the account of an import, which quotes users and paths, stays behind.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from pipelines import artifacts
from pipelines.bundle.card import write_card
from pipelines.bundle.config import BundleConfig
from pipelines.bundle.facts import Facts
from pipelines.bundle.manifest import POPULARITY, dataset_of, is_bundle, run_of, write_manifest
from pipelines.data.catalogue import path_of_text_behind
from pipelines.data.sequences import Sequences, load_sequences
from pipelines.durable import whole
from pipelines.errors import UserError
from pipelines.formats import trainings
from pipelines.models.loading import TrainedRun, load_run, save
from pipelines.progress import Progress
from pipelines.workspace import Dataset, Run, Workspace


@dataclass(frozen=True, eq=False)
class _Exported:
    """The run that is exported, with its data."""

    workspace: Workspace
    run: Run
    trained: TrainedRun
    sequences: Sequences


def export_run(
    workspace: Workspace,
    run: Run,
    folder: Path,
    config: BundleConfig,
    progress: Progress,
    *,
    force: bool = False,
) -> None:
    """Write a bundle.

    Args:
        workspace: workspace of the run.
        run: the run.
        folder: the bundle, which is replaced as a whole.
        config: what the bundle holds.
        progress: receives messages.
        force: if true, another bundle in `folder` is replaced.

    Raises:
        UserError: the folder exists, the run cannot be loaded, or its model cannot be written as ONNX.
    """
    _refuse_existing(folder, force)
    trained = load_run(workspace, run, torch.device("cpu"), any_sequences=True)
    if config.onnx:
        from pipelines.bundle.graph import check_exportable  # loads onnxruntime

        check_exportable(trained)
    sequences = load_sequences(trained.dataset.sequences, trained.catalogue.items)
    exported = _Exported(workspace, run, trained, sequences)
    with whole(folder, lambda: _refuse_existing(folder, force)) as new:
        _write_run(exported, new)
        _write_items(exported, new)
        _write_popularity(exported, new)
        if config.onnx:
            from pipelines.bundle.graph import write_graph

            counts = np.bincount(sequences.items, minlength=trained.catalogue.items)
            write_graph(trained, counts, new, config.onnx_items, progress)
        write_card(new, Facts.of(workspace, run, trained, sequences), config)
        write_manifest(new, run.name, trained.dataset.name)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    progress.say(f"{run.name} is exported to {folder}: {size / 2**20:.1f} MiB.")


def _refuse_existing(folder: Path, force: bool) -> None:
    """Refuse to replace what is no bundle, or a bundle without --force."""
    if not folder.exists():
        return
    if is_bundle(folder):
        if not force:
            raise UserError(f"{folder} holds a bundle. Replace it with --force, or name another folder.")
    elif not folder.is_dir() or any(folder.iterdir()):
        raise UserError(f"{folder} exists and is no bundle. Name another folder with --output.")


def _write_run(exported: _Exported, new: Path) -> None:
    """Write weights, configuration and the file that repeats the training."""
    run, copy = exported.run, run_of(new, exported.run.name)
    save(exported.trained.model, copy.weights)
    config = run.read_config() | {"weights": artifacts.digest(copy.weights)}
    artifacts.write_json(copy.config, config)
    final = config.get("final")
    validated = exported.workspace.run(final["of"]) if final else run
    settings = validated.settings if validated.settings.exists() else run.settings
    if settings.exists():
        shutil.copyfile(settings, copy.settings)


def _write_items(exported: _Exported, new: Path) -> None:
    """Write the catalogue, and semantic IDs, codebooks, text embeddings and encoder where there are any."""
    old, copy = exported.trained.dataset, dataset_of(new, exported.trained.dataset.name)
    _copy(old, copy, old.items)
    used = [training["sids"] for training in trainings(exported.run.read_config())]
    for sids in dict.fromkeys(name for name in used if name is not None):
        _copy(old, copy, old.codebooks(sids))
        embeddings = path_of_text_behind(old.sids(sids))
        if embeddings is not None:
            _copy(old, copy, old.encoder(embeddings.stem))
            _copy(old, copy, old.embeddings(embeddings.stem))
        _copy(old, copy, old.sids(sids))


def _copy(old: Dataset, copy: Dataset, path: Path) -> None:
    """Copy an artifact of a data set if it exists. Of its inputs it names those in the bundle."""
    recorded = artifacts.provenance(path)
    if recorded is None:
        return
    target = copy.path / path.relative_to(old.path)
    target.parent.mkdir(exist_ok=True)
    places = {name: (target.parent / source["path"]).resolve() for name, source in recorded["inputs"].items()}
    root = copy.path.resolve()
    inside = {name for name, place in places.items() if place.is_relative_to(root) and place.exists()}
    kept = {name: source for name, source in recorded["inputs"].items() if name in inside}
    artifacts.write_again(target, path, kept, bare=True)


def _write_popularity(exported: _Exported, new: Path) -> None:
    """Write how often the items were taken, and which of them training knew."""
    trained, sequences = exported.trained, exported.sequences
    N = trained.catalogue.items
    training = sequences if exported.run.is_final else trained.training_sequences(sequences)
    table = pa.table(
        {
            "item": pa.array(np.arange(N), pa.int32()),
            "interactions": pa.array(np.bincount(sequences.items, minlength=N), pa.int64()),
            "trained": ~np.isin(np.arange(N), trained.new_items),
            "warm": np.isin(np.arange(N), training.items),
        }
    )
    artifacts.write(new / POPULARITY, "popularity", table, config={})
