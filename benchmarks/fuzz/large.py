"""Readers of large data: sequences in files of another program, and interactions that are read in pieces."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.fuzz import world
from pipelines import artifacts
from pipelines.data.sequences import load_sequences
from pipelines.data.splits import histories, training
from pipelines.data.stored import StoredSequences
from pipelines.download.statistics import statistics
from pipelines.import_ import combined
from pipelines.import_.build import import_dataset
from pipelines.import_.config import ImportConfig
from pipelines.inventory import overview
from pipelines.progress import Silent
from pipelines.workspace import Dataset, Workspace

PIECE = 7  # rows


def import_folder(path: Path) -> None:
    """Import a folder with one file, and read the data set."""
    folder = path.parent / "folder"
    folder.mkdir(exist_ok=True)
    path.replace(folder / world.FILE)
    read_listed(world.take(Workspace(path.parent / "imported"), folder))


def read_changed(workspace: Workspace, path: Path) -> None:
    """Read a data set of which a file has changed, but not the time of its change."""
    dataset = workspace.dataset(world.LISTED)
    modified = artifacts.read(dataset.sequences, "sequence_files")["modified"][0].as_py()
    os.utime(path, ns=(modified, modified))
    read_listed(dataset)


def read_listed(dataset: Dataset) -> None:
    """Read a data set that lists files, as training, evaluation and `maskgr show` do."""
    found = load_sequences(dataset.sequences, world.ITEMS)
    training(found), histories(found, "validation"), histories(found, "test")
    for _ in StoredSequences(dataset.sequences, world.ITEMS).users(5):
        pass
    statistics(dataset)


def read_list(workspace: Workspace, path: Path) -> Any:
    """Read a data set whose list of files is corrupted."""
    read_listed(workspace.dataset(world.LISTED))
    return overview(workspace)


def import_in_pieces(path: Path) -> None:
    """Import a file piece by piece, as files of more than 64 MiB are imported."""
    with mock.patch.multiple(combined, LARGE=1, PIECE=PIECE):
        import_dataset(
            Workspace(path.parent / "imported"),
            "own",
            ImportConfig(),
            Silent(),
            interactions=[path],
            force=True,
        )
