"""What must hold of a workspace after any kill."""

from __future__ import annotations

from pathlib import Path

import torch

from pipelines import artifacts
from pipelines.errors import UserError
from pipelines.models.loading import load_run
from pipelines.workspace import Workspace

HALVES = (".maskgr-*", ".*.ready", ".*.anew", ".*.parts", "*.lock*", "*-trial-*")
# With each result, what says the same in every run of one seed; not so the journal of a study, figures of time, and pages that show them.
SAME = ("*.parquet", "model.safetensors", "state.safetensors")
VARYING = {"history.parquet", "trials.parquet", "results.parquet", "curves.parquet"}


def leftovers(root: Path) -> list[str]:
    """What commands keep only while they work."""
    return sorted(str(path.relative_to(root)) for pattern in HALVES for path in root.rglob(pattern))


def result(root: Path) -> dict[str, str]:
    """Digests of all artifacts that a seed decides."""
    paths = (path for pattern in SAME[:2] for path in root.rglob(pattern) if path.name not in VARYING)
    return {str(path.relative_to(root)): artifacts.digest(path) for path in paths}


def unsound(root: Path) -> str | None:
    """What is wrong with a workspace as the next command sees it; None where all is whole."""
    place = Workspace.find(root)
    try:
        for data in place.datasets:
            for kind in ("interactions", "items", "sequences"):
                artifacts.read(getattr(data, kind), kind)
            if reason := artifacts.stale(data.sequences):
                return f"{data.path}: {reason}"
            for path in data.all_embeddings:
                artifacts.read(path, "embeddings")
            for path in data.all_sids:
                artifacts.read(path, "sids")
                artifacts.read(data.quality(path.stem), "quality")
        for run in place.runs:
            config = artifacts.read_json(run.config)
            if config["state"] == "finished" and not _is_of_other_data(place, config):
                load_run(place, run, torch.device("cpu"))
                artifacts.read(run.history, "history")
            for folder in run.evaluations:
                for kind in ("metrics", "ranks", "recommendations"):
                    artifacts.read(folder / f"{kind}.parquet", kind)
    except UserError as error:
        return str(error)
    return None


def _is_of_other_data(place: Workspace, config: dict) -> bool:
    """Whether a data set or its semantic IDs were replaced since a run was trained, which is no fault."""
    data = place.dataset(config["dataset"])
    now = {"sequences": data.sequences, "sids": data.sids(config["sids"])}
    return any(
        config["inputs"][name]["sha256"] != artifacts.digest(path)
        for name, path in now.items()
        if name in config["inputs"]
    )
