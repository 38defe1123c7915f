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
from pipelines.ablate.recipe import Recipe
from pipelines.ablate.recipe_file import read
from pipelines.data.sequences import load_sequences
from pipelines.data.splits import histories
from pipelines.errors import UserError
from pipelines.evaluate.config import EvalConfig
from pipelines.evaluate.recommend import Recommendations
from pipelines.evaluate.report import write_evaluation
from pipelines.progress import Silent
from pipelines.train.plan import Plan
from pipelines.workspace import FORMAT_VERSION, Run, Workspace

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
    """Stands for training and evaluation; what was asked for, in order. A user's target is found at rank
    `rank(run's plan)`, one for all users or one for each.
    """

    def __init__(self) -> None:
        self.trained: list[str] = []
        self.evaluated: list[tuple[str, str]] = []
        self.refused: Callable[[Plan], str | None] = lambda plan: None
        self.rank: Callable[[Plan], int | np.ndarray] = lambda plan: 1
        self.plans: dict[str, Plan] = {}

    def train_run(
        self, workspace: Workspace, plan: Plan, progress: object, *, name: str, existing: str
    ) -> Run:
        assert existing == "resume"
        self.trained.append(name)
        self.plans[name] = plan
        if reason := self.refused(plan):
            raise UserError(reason)
        run = workspace.run(name)
        artifacts.write_json(
            run.config,
            {
                **plan.to_dict(),
                "format": FORMAT_VERSION,
                "state": "finished",
                "seconds": 60.0,
                "commit": "abc",
                "machine": "a toy",
            },
        )
        run.weights.write_text("weights")
        return run

    def evaluate_run(self, workspace: Workspace, run: Run, config: EvalConfig, progress: object) -> Any:
        decoding, split = config.decoding, config.split
        self.evaluated.append((run.name, decoding.name))
        users = histories(load_sequences(workspace.dataset(self.plans[run.name].dataset).sequences), split)
        items = np.full((len(users), decoding.beams, 1), -1)
        items[np.arange(len(users)), self.rank(self.plans[run.name]) - 1] = users.targets
        none = np.zeros(len(users), np.int32)
        folder = write_evaluation(
            run.evaluation(decoding.name),
            split=users,
            recommendations=Recommendations(items, np.zeros(items.shape[:2]), none, none),
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


def plan_all(workspace: Workspace, recipe: Recipe, settings: GridSettings = SMOKE) -> list[PlannedRun]:
    """Plan all runs of a recipe."""
    inputs = Inputs(workspace, None, True, Silent())
    return plan_runs(cells(recipe, settings), inputs, settings.budget, settings.split)


def run_grid(workspace: Workspace, recipe: Recipe, settings: GridSettings = SMOKE) -> list[PlannedRun]:
    """Plan and do all runs of a recipe."""
    planned = plan_all(workspace, recipe, settings)
    engine.run_all(workspace, engine.jobs_of(workspace, planned, settings.split), Silent())
    return planned
