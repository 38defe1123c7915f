"""A tiny recipe, and training and evaluation that cost nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pipelines import artifacts
from pipelines.ablate import engine
from pipelines.ablate.grid import GridSettings, cells
from pipelines.ablate.planning import Inputs, PlannedRun, plan_runs
from pipelines.ablate.recipe import Recipe, read
from pipelines.data.sequences import load_sequences
from pipelines.data.splits import histories
from pipelines.decode.config import Decoding
from pipelines.errors import UserError
from pipelines.evaluate.report import write_evaluation
from pipelines.progress import Silent
from pipelines.train.run import Plan, describe
from pipelines.workspace import Run, Workspace

TOML: dict[str, Any] = {
    "title": "Toy",
    "source": "a paper, table 0",
    "datasets": ["toy"],
    "metrics": ["R@5", "N@10", "invalid"],
    "system": [
        {"name": "Items", "model": "sasrec"},
        {
            "name": "Digits",
            "model": "maskgr",
            "sids": [1, 2],
            "codebook": 64,
            "nfe": 1,
            "smoke": {"dropout": 0.2},
        },
    ],
    "paper": [
        {"system": "Items", "R@5": 40.0},
        {"system": "Digits", "sids": 2, "R@5": 12.5, "N@10": 7.0},
    ],
}
SMOKE = GridSettings("smoke")


@pytest.fixture
def recipe() -> Recipe:
    return read("toy", TOML, "toy.toml")


class Fakes:
    """Stands for training and evaluation; what was asked for, in order. A user's target is found at rank `rank(run's plan)`."""

    def __init__(self) -> None:
        self.trained: list[str] = []
        self.evaluated: list[tuple[str, str]] = []
        self.refused: Callable[[Plan], str | None] = lambda plan: None
        self.rank: Callable[[Plan], int] = lambda plan: 1
        self.plans: dict[str, Plan] = {}

    def train_run(
        self, workspace: Workspace, plan: Plan, progress: object, *, name: str, resume: bool
    ) -> Run:
        assert resume
        self.trained.append(name)
        self.plans[name] = plan
        if reason := self.refused(plan):
            raise UserError(reason)
        run = workspace.run(name)
        artifacts.write_json(
            run.config,
            {**describe(plan), "state": "finished", "seconds": 60.0, "commit": "abc", "machine": "a toy"},
        )
        run.weights.write_text("weights")
        return run

    def evaluate_run(
        self, workspace: Workspace, run: Run, decoding: Decoding, progress: object, *, split: str
    ) -> Any:
        self.evaluated.append((run.name, decoding.name))
        users = histories(load_sequences(workspace.dataset(self.plans[run.name].dataset).sequences), split)
        found = np.full((len(users), decoding.beams, 1), -1)
        found[:, self.rank(self.plans[run.name]) - 1] = users.targets
        folder = write_evaluation(
            run.evaluation(decoding.name),
            split=users,
            recommended=found,
            scores=np.zeros(found.shape[:2]),
            invalid=np.zeros(len(users), np.int32),
            duplicates=np.zeros(len(users), np.int32),
            config={"split": split, "beams": decoding.beams},
            inputs={"weights": run.weights},
            seconds=6.0,
        )
        return type("Evaluation", (), {"folder": folder, "description": f"a fake, {decoding.name}"})


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> Fakes:
    fakes = Fakes()
    monkeypatch.setattr(engine, "train_run", fakes.train_run)
    monkeypatch.setattr(engine, "evaluate_run", fakes.evaluate_run)
    return fakes


def placed_cells(workspace: Workspace, recipe: Recipe, scale: GridSettings = SMOKE) -> list[PlannedRun]:
    return plan_runs(cells(recipe, scale), Inputs(workspace, None, True, Silent()), scale.budget, scale.split)


def run_grid(workspace: Workspace, recipe: Recipe, scale: GridSettings = SMOKE) -> list[PlannedRun]:
    """Place and do all cells of a recipe."""
    planned = placed_cells(workspace, recipe, scale)
    engine.run_all(workspace, engine.jobs_of(workspace, planned, scale.split), Silent())
    return planned
