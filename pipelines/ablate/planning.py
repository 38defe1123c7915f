"""Where each cell of a grid belongs: its data set and semantic IDs made ready, its run named by all that decides its result."""

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
from pipelines.train.run import Plan, describe
from pipelines.workspace import Dataset, Workspace

TRIED_AGAIN = 3600  # seconds after which a data set that could not be fetched is asked for again


@dataclass(frozen=True, eq=False)
class PlannedRun:
    """A cell and where it belongs.

    Attributes:
        plan: what to train; None where nothing is, or where it cannot be.
        run: the run's name, which holds a digest of the plan and of its inputs' content.
        key: names the outcome; a digest of the run's name and the evaluation.
        inputs: name → sha256 of what it is made from.
        reason: why it cannot be run.
    """

    cell: Cell
    plan: Plan | None = None
    run: str = ""
    key: str = ""
    inputs: dict[str, str] = dataclasses.field(default_factory=dict)
    reason: str | None = None


class Inputs:
    """Data sets and semantic IDs of a grid, each made ready once; what cannot be is a reason instead.

    Args:
        embedding: that semantic IDs are made of; None for the newest.
        build: fetch and make what is missing; without, it is left alone (a dry run).
    """

    def __init__(self, workspace: Workspace, embedding: str | None, build: bool, progress: Progress) -> None:
        self.workspace, self.embedding, self.build, self.progress = workspace, embedding, build, progress
        self.dataset = functools.cache(self._dataset)
        self.sids = functools.cache(self._sids)
        self.digests = functools.cache(self._digests)

    def _dataset(self, name: str) -> Dataset | str:
        have = {data.name for data in self.workspace.datasets}
        if name in have:
            return self.workspace.dataset(name)
        try:
            if name in DATASETS and self.build:
                self._fetch(name)
            return self.workspace.require_dataset(name)
        except UserError as error:
            return str(error)

    def _fetch(self, name: str) -> None:
        """Download a data set, unless that failed a moment ago; the current data set stays what it was.

        Raises:
            UserError: it cannot be fetched.
        """
        from pipelines.download.build import download_dataset

        note = self.workspace.outcomes / "unreachable.json"
        tried = artifacts.read_json(note, dict[str, float], "Remove it.") if note.exists() else {}
        if name in tried and 0 <= time.time() - tried[name] < TRIED_AGAIN:
            raise UserError(
                f"{name} could not be fetched within the last hour. Get it with: maskgr download {name}, or maskgr import {name} …"
            )
        current = self.workspace.current
        self.progress.say(f"Fetching {name}.")
        try:
            download_dataset(self.workspace, name, DownloadConfig(), self.progress)
        except UserError as error:
            artifacts.write_json(note, {**tried, name: time.time()})
            raise UserError(f"{name} cannot be fetched: {error}") from None
        if current:
            self.workspace.use(current)

    def _sids(self, dataset: str, config: TokenizeConfig) -> tuple[str, str | None]:
        """Their name, and why they cannot be used."""
        data = self.workspace.dataset(dataset)
        if not self.build:
            embedding = self.embedding or (
                data.require_embeddings().stem if data.all_embeddings else DEFAULT_EMBEDDING
            )
            name = default_name(embedding, config)
            return name, artifacts.stale(data.sids(name))
        try:
            return ensure_sids(data, config, self.embedding, self.progress), None
        except UserError as error:
            return "", str(error)

    def _digests(self, dataset: str, sids: str | None, needs: tuple[str, ...]) -> dict[str, str]:
        return {
            name: artifacts.digest(path)
            for name, path in sources(self.workspace.dataset(dataset), sids, needs).items()
        }


def plan_runs(cells: list[Cell], inputs: Inputs, budget: str, split: str) -> list[PlannedRun]:
    """Where each cell belongs; see `Inputs` for what is made on the way."""
    return [_planned(cell, inputs, budget, split) for cell in cells]


def _planned(cell: Cell, inputs: Inputs, budget: str, split: str) -> PlannedRun:
    if cell.refused:
        return PlannedRun(cell, reason=cell.refused)
    data = inputs.dataset(cell.dataset)
    if isinstance(data, str):
        if inputs.build or cell.dataset not in DATASETS:
            return PlannedRun(cell, reason=data)
        return PlannedRun(
            cell,
            Plan(cell.dataset, None, cell.model, budget, cell.model_settings, cell.train)
            if cell.model_settings and cell.train
            else None,
        )
    if cell.model_settings is None or cell.train is None:
        return PlannedRun(cell, inputs={"sequences": artifacts.digest(data.sequences)})
    sids, missing = inputs.sids(cell.dataset, cell.tokenize) if cell.tokenize else (None, None)
    plan = Plan(cell.dataset, sids, cell.model, budget, cell.model_settings, cell.train)
    if missing:
        return PlannedRun(cell, plan, reason=missing if inputs.build else None)
    try:
        digests = inputs.digests(cell.dataset, sids, cell.model_settings.training_needs)
    except (UserError, OSError) as error:
        return PlannedRun(cell, plan, reason=str(error))
    run = f"{cell.dataset}-{cell.model}-{budget}-{_digest({**describe(plan), 'inputs': digests})}"
    key = _digest(
        {"run": run, "split": split, "diagnosed": cell.diagnosed, **dataclasses.asdict(cell.decoding)}
    )
    named = {f"{name} {sids}" if name == "sids" else name: sha for name, sha in digests.items()}
    return PlannedRun(cell, plan, run, key, named)


def _digest(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]
