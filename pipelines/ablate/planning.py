"""Plans of a grid's runs: inputs are made, and a run is named by everything that decides its result."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import time
from dataclasses import dataclass
from typing import Any

from pipelines import artifacts
from pipelines.ablate.grid import Cell
from pipelines.data.catalogue import sources
from pipelines.defaults import DEFAULT_EMBEDDING, ensure_sids
from pipelines.download.config import DownloadConfig
from pipelines.download.sources import DATASETS
from pipelines.errors import UserError
from pipelines.progress import Progress
from pipelines.tokenize.config import TokenizeConfig, default_name
from pipelines.train.plan import Plan
from pipelines.workspace import Dataset, Workspace

RETRY_SECONDS = 3600  # pause between two attempts to download a data set


@dataclass(frozen=True, eq=False)
class PlannedRun:
    """A cell of a grid, the plan of its run, and the names of its run and of its result.

    Attributes:
        cell: cell of the grid.
        plan: plan of the training; None if nothing is trained, or if the cell cannot be run.
        run: name of the run, which ends with a digest of the plan and of the content of its inputs.
        key: name of the result, a digest of the run's name and of the evaluation.
        inputs: mapping from the name of an input to the sha256 of its content.
        reason: reason why the cell cannot be run.
    """

    cell: Cell
    plan: Plan | None = None
    run: str = ""
    key: str = ""
    inputs: dict[str, str] = dataclasses.field(default_factory=dict)
    reason: str | None = None


class Inputs:
    """Data sets and semantic IDs of a grid, each of which is made only once.

    If an input cannot be made, the methods return the reason.

    Args:
        workspace: workspace of the inputs.
        embedding: name of the embeddings from which semantic IDs are made; None for the newest.
        build: if true, missing inputs are downloaded and made; if false (a dry run), they are not.
        progress: listener.
    """

    def __init__(self, workspace: Workspace, embedding: str | None, build: bool, progress: Progress) -> None:
        self.workspace, self.embedding, self.build, self.progress = workspace, embedding, build, progress
        self.dataset = functools.cache(self._dataset)
        self.sids = functools.cache(self._sids)
        self.digests = functools.cache(self._digests)

    def _dataset(self, name: str) -> Dataset | str:
        """Return a data set, or the reason why there is none."""
        existing = {dataset.name for dataset in self.workspace.datasets}
        if name in existing:
            return self.workspace.dataset(name)
        try:
            if name in DATASETS and self.build:
                self._download(name)
            return self.workspace.require_dataset(name)
        except UserError as error:
            return str(error)

    def _download(self, name: str) -> None:
        """Download a data set, unless this failed within the last hour; the current data set does not change.

        Raises:
            UserError: the data set cannot be downloaded.
        """
        from pipelines.download.build import download_dataset

        path = self.workspace.run_results / "unreachable.json"
        failures = artifacts.read_json(path, dict[str, float], "Remove it.") if path.exists() else {}
        if name in failures and 0 <= time.time() - failures[name] < RETRY_SECONDS:
            raise UserError(
                f"{name} could not be fetched within the last hour. "
                f"Get it with: maskgr download {name}, or maskgr import {name} …"
            )
        current = self.workspace.current
        self.progress.say(f"Fetching {name}.")
        try:
            download_dataset(self.workspace, name, DownloadConfig(), self.progress)
        except UserError as error:
            artifacts.write_json(path, {**failures, name: time.time()})
            raise UserError(f"{name} cannot be fetched: {error}") from None
        if current:
            self.workspace.use(current)

    def _sids(self, dataset_name: str, config: TokenizeConfig) -> tuple[str, str | None]:
        """Return the name of semantic IDs, and the reason why they cannot be used or None."""
        dataset = self.workspace.dataset(dataset_name)
        if not self.build:
            embedding = self.embedding or (
                dataset.require_embeddings().stem if dataset.all_embeddings else DEFAULT_EMBEDDING
            )
            name = default_name(embedding, config)
            return name, artifacts.stale(dataset.sids(name))
        try:
            return ensure_sids(dataset, config, self.embedding, self.progress), None
        except UserError as error:
            return "", str(error)

    def _digests(self, dataset: str, sids: str | None, needs: tuple[str, ...]) -> dict[str, str]:
        """Return the sha256 of each input of a training, by name."""
        paths = sources(self.workspace.dataset(dataset), sids, needs)
        return {name: artifacts.digest(path) for name, path in paths.items()}


def plan_runs(cells: list[Cell], inputs: Inputs, budget: str, split: str) -> list[PlannedRun]:
    """Plan the run of each cell; see `Inputs` for the data sets and semantic IDs that are made."""
    return [_plan_run(cell, inputs, budget, split) for cell in cells]


def _plan_run(cell: Cell, inputs: Inputs, budget: str, split: str) -> PlannedRun:
    if cell.refused:
        return PlannedRun(cell, reason=cell.refused)
    dataset = inputs.dataset(cell.dataset)
    if isinstance(dataset, str):
        if inputs.build or cell.dataset not in DATASETS:
            return PlannedRun(cell, reason=dataset)
        return PlannedRun(cell, _plan(cell, budget, None))
    if cell.model_settings is None or cell.decoding is None:
        return PlannedRun(cell, inputs={"sequences": artifacts.digest(dataset.sequences)})
    sids, missing = inputs.sids(cell.dataset, cell.tokenize) if cell.tokenize else (None, None)
    plan = _plan(cell, budget, sids)
    if plan is None or missing:
        return PlannedRun(cell, plan, reason=missing if inputs.build else None)
    try:
        digests = inputs.digests(cell.dataset, sids, cell.model_settings.training_needs)
    except (UserError, OSError) as error:
        return PlannedRun(cell, plan, reason=str(error))
    run = f"{cell.dataset}-{cell.model}-{budget}-{_digest({**plan.to_dict(), 'inputs': digests})}"
    evaluation = {"split": split, "diagnosed": cell.diagnosed, **dataclasses.asdict(cell.decoding)}
    key = _digest({"run": run, **evaluation})
    named = {f"{name} {sids}" if name == "sids" else name: sha256 for name, sha256 in digests.items()}
    return PlannedRun(cell, plan, run, key, named)


def _plan(cell: Cell, budget: str, sids: str | None) -> Plan | None:
    """Return the plan of a cell's training; None if nothing is trained."""
    if cell.model_settings is None or cell.train is None:
        return None
    return Plan(cell.dataset, sids, cell.model, budget, cell.model_settings, cell.train)


def _digest(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]
