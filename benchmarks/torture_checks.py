"""Checks of a workspace after a stopped command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch

from pipelines import artifacts
from pipelines.bundle.manifest import is_bundle
from pipelines.bundle.read import load_bundle
from pipelines.errors import UserError
from pipelines.models.loading import load_run
from pipelines.workspace import Run, Workspace

TEMPORARY = (".maskgr-*", ".*.ready", ".*.anew", ".*.parts", ".*.replaced", "*.lock*", "*-trial-*")
# Files that are the same in every run of one seed. Others are not: the journal of a study, durations, and
# pages that show them.
REPRODUCIBLE = ("*.parquet", "*.csv", "model.safetensors")
VARYING = {"history.parquet", "trials.parquet", "results.parquet", "curves.parquet"}

KINDS = {  # data set that lists files → kinds of its artifacts, with their properties
    False: {"interactions": "interactions", "items": "items", "sequences": "sequences"},
    True: {"items": "items", "sequence_files": "sequences"},
}


def leftovers(root: Path) -> list[str]:
    """Return the files that commands keep only while they work."""
    return sorted(str(path.relative_to(root)) for pattern in TEMPORARY for path in root.rglob(pattern))


def result_digests(root: Path) -> dict[str, str]:
    """Return the digests of all artifacts that a seed determines, by their path."""
    paths = (path for pattern in REPRODUCIBLE for path in root.rglob(pattern) if path.name not in VARYING)
    return {str(path.relative_to(root)): artifacts.digest(path) for path in paths}


def find_fault(root: Path) -> str | None:
    """Return the first fault of a workspace as the next command sees it; None without a fault."""
    workspace = Workspace.find(root)
    try:
        for dataset in workspace.datasets:
            for kind, name in KINDS[dataset.lists_files].items():
                artifacts.read(getattr(dataset, name), kind)
            if reason := artifacts.stale(dataset.sequences):
                return f"{dataset.path}: {reason}"
            for path in dataset.all_embeddings:
                artifacts.read(path, "embeddings")
            for path in dataset.all_sids:
                artifacts.read(path, "sids")
                artifacts.read(dataset.quality(path.stem), "quality")
        for run in workspace.runs:
            _read_run(workspace, run)
        if is_bundle(root / "bundle"):
            load_bundle(root / "bundle", torch.device("cpu"))
        for path in root.glob("*.parquet"):
            pq.read_table(path)
    except UserError as error:
        return str(error)
    return None


def _read_run(workspace: Workspace, run: Run) -> None:
    """Read all artifacts of a run.

    Raises:
        UserError: one of them cannot be read.
    """
    config = artifacts.read_json(run.config)
    if config["state"] == "finished" and not _has_other_inputs(workspace, config):
        load_run(workspace, run, torch.device("cpu"))
        artifacts.read(run.history, "history")
    for folder in run.evaluations:
        for kind in ("metrics", "ranks", "recommendations"):
            artifacts.read(folder / f"{kind}.parquet", kind)


def _has_other_inputs(workspace: Workspace, config: dict[str, Any]) -> bool:
    """Return true if the data set or its semantic IDs were replaced after a run was trained, which is no
    fault.
    """
    dataset = workspace.dataset(config["dataset"])
    paths = {"sequences": dataset.sequences, "sids": dataset.sids(config["sids"])}
    return any(
        config["inputs"][name]["sha256"] != artifacts.digest(path)
        for name, path in paths.items()
        if name in config["inputs"]
    )
