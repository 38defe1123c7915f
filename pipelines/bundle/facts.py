"""What a model card says of a run: metrics, data, training and machine, from the workspace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipelines import artifacts
from pipelines.data.sequences import Sequences
from pipelines.download.description import Source
from pipelines.download.sources import DATASETS
from pipelines.errors import UserError
from pipelines.models.loading import TrainedRun
from pipelines.names import is_name
from pipelines.workspace import Run, RunConfig, Workspace

EXAMPLES = 2  # items of the examples


@dataclass(frozen=True, eq=False)
class Measured:
    """An evaluation that is up to date.

    Attributes:
        name: name of its decoding.
        config: settings of the evaluation.
        machine: machine that computed it.
        rows: rows of its metrics.
    """

    name: str
    config: Mapping[str, Any]
    machine: str
    rows: list[dict[str, Any]]


@dataclass(frozen=True, eq=False)
class Facts:
    """Content of a model card.

    Attributes:
        run: name of the run.
        config: content of its config.json.
        trained: the loaded run.
        measured_run: name of the run that the evaluations are of.
        measured: its evaluations.
        users: number of users of the data set.
        interactions: number of their interactions.
        columns: columns of the items.
        source: description of a public data set; None for other data.
        examples: ids of items.
    """

    run: str
    config: RunConfig
    trained: TrainedRun
    measured_run: str
    measured: list[Measured]
    users: int
    interactions: int
    columns: list[str]
    source: Source | None
    examples: list[str]

    @staticmethod
    def of(workspace: Workspace, run: Run, trained: TrainedRun, sequences: Sequences) -> Facts:
        """Gather the facts of a run.

        Raises:
            UserError: config.json or the items cannot be read.
        """
        config, dataset = run.read_config(), trained.dataset
        final = config.get("final")
        measured = workspace.run(final["of"]) if final else run
        ids = artifacts.read(dataset.items, "items", columns=["item_id"])["item_id"]
        plain = [name for name in map(str, ids.slice(0, 100).to_pylist()) if is_name(name)]
        return Facts(
            run.name,
            config,
            trained,
            measured.name,
            _evaluations(measured),
            len(sequences),
            len(sequences.items),
            [name for name in pq.read_schema(dataset.items).names if name != "item"],
            _source(dataset.name, dataset.items),
            plain[:EXAMPLES] or ["ID"],
        )


def _evaluations(run: Run) -> list[Measured]:
    """Return the evaluations of a run that are up to date."""
    found = []
    for folder in run.evaluations:
        path = folder / "metrics.parquet"
        recorded = artifacts.provenance(path)
        if recorded is None or artifacts.stale(path):
            continue
        try:
            rows = artifacts.read(path, "metrics").to_pylist()
        except UserError:  # damaged
            continue
        found.append(Measured(folder.name, recorded["config"], recorded["machine"], rows))
    return found


def _source(name: str, items: Path) -> Source | None:
    """Return the description of a data set that `maskgr download` made; None for another."""
    recorded = artifacts.provenance(items)
    downloaded = recorded is not None and "reader" in recorded["config"]
    return DATASETS.get(name) if downloaded else None
