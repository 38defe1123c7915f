"""Trainings on a temporal split see nothing from the validation's time on: their weights stay the same to the
last bit where later items are others. Runs of another split neither teach nor go on.
"""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import torch

from pipelines import artifacts
from pipelines.data.sequences import load_sequences
from pipelines.data.stored import StoredSequences
from pipelines.errors import UserError
from pipelines.evaluate.config import EvalConfig
from pipelines.evaluate.run import evaluate_run
from pipelines.import_.build import import_dataset
from pipelines.import_.config import ImportConfig
from pipelines.models.loading import load_run
from pipelines.models.registry import model_config
from pipelines.processes import Processes
from pipelines.temporal import COLUMNS
from pipelines.train.config import TrainConfig
from pipelines.train.derived import continued_plan
from pipelines.train.plan import Plan
from pipelines.train.run import train_run
from pipelines.train.teachers import teacher_weights
from pipelines.workspace import Workspace
from tests.conftest import ListProgress, write_toy
from tests.train.test_leakage import SCHEDULE, SIZES, figures, plan_of, same_state

USERS, ITEMS = 60, 60


@pytest.fixture
def data(workspace: Workspace) -> Workspace:
    """Users of one to nine random items, of whom some have no item in a period, or none to train on."""
    write_toy(workspace, USERS, ITEMS)
    rng = np.random.default_rng(1)
    rows = [rng.integers(0, ITEMS, rng.integers(1, 10)).tolist() for _ in range(USERS)]
    begins = np.array([np.sort(rng.integers(0, len(row) + 1, 2)) for row in rows])
    path, lengths = workspace.require_dataset().sequences, np.array([len(row) for row in rows])
    ends = np.stack([begins[:, 1], lengths], axis=1)
    targets = (begins[:, :1] > 0) & (begins < ends)
    values = dict(zip(COLUMNS, (*begins.T, *targets.T), strict=True))
    table = artifacts.read(path, "sequences").set_column(2, "items", pa.array(rows, pa.list_(pa.int32())))
    for name, kind in COLUMNS.items():
        table = table.append_column(name, pa.array(values[name], kind))
    artifacts.write(path, "sequences", table, config={})
    return workspace


def redraw(workspace: Workspace, period: str) -> None:
    """Put other items in place of those from a period on."""
    path, rng = workspace.require_dataset().sequences, np.random.default_rng(2)
    table = artifacts.read(path, "sequences")
    pairs = zip(table["items"].to_pylist(), table[f"{period}_begin"].to_pylist(), strict=True)
    rows = [[*row[:begin], *rng.integers(0, ITEMS, len(row) - begin).tolist()] for row, begin in pairs]
    artifacts.write(
        path, "sequences", table.set_column(2, "items", pa.array(rows, pa.list_(pa.int32()))), config={}
    )


@pytest.mark.parametrize(
    ("model", "schedule"),
    [
        ("maskgr", {}),
        ("maskgr", {"shuffle": "groups", "drop_items": 0.3}),
        ("tiger", {}),
        ("sasrec", {"validation_users": 9}),
        ("bert4rec", {"windows": "last"}),
        ("cooccurrence", {}),
    ],
    ids=str,
)
def test_training_sees_nothing_that_is_held_out(
    data: Workspace, progress: ListProgress, model: str, schedule: dict[str, Any]
) -> None:
    plan = plan_of(data, model, {}, schedule)
    before = train_run(data, plan, progress, name="before")
    redraw(data, "test")
    tested = train_run(data, plan, progress, name="tested")
    assert same_state(before, tested) and figures(tested) == figures(before)
    assert tested.weights.read_bytes() == before.weights.read_bytes()  # of the best validation
    redraw(data, "validation")
    validated = train_run(data, plan, progress, name="validated")
    assert same_state(before, validated) and figures(validated, "loss") == figures(before, "loss")


def test_soft_targets_and_popularity_see_nothing_that_is_held_out(
    data: Workspace, progress: ListProgress
) -> None:
    rows = artifacts.read(data.require_dataset().sequences, "sequences").to_pylist()
    trained = [item for row in rows for item in row["items"][: row["validation_begin"]]]

    def targets_of(name: str) -> str:
        """Train a student, and return the digest of its soft targets."""
        train_run(data, plan_of(data, "sasrec", {}, {"validations": 1}), progress, name=f"teacher-{name}")
        taught = plan_of(data, "maskgr", {}, {"distill": f"teacher-{name}", "teacher_items": 8})
        run = train_run(data, taught, progress, name=name)
        dataset = data.require_dataset()
        loaded = load_run(data, run, torch.device("cpu"))
        counts = loaded.training_counts(StoredSequences(dataset.sequences), Processes())
        assert counts.tolist() == np.bincount(trained, minlength=ITEMS).tolist()
        newest = max(dataset.all_targets, key=lambda path: path.stat().st_mtime_ns)
        assert artifacts.count(newest) == len(trained)
        return artifacts.digest(newest)

    before = targets_of("before")
    redraw(data, "validation")
    assert targets_of("after") == before


def test_only_users_with_a_target_are_measured(data: Workspace, progress: ListProgress) -> None:
    run = train_run(data, plan_of(data, "sasrec", {}, {}), progress)
    rows = artifacts.read(data.require_dataset().sequences, "sequences").to_pylist()
    for period in ("validation", "test"):
        folder = evaluate_run(data, run, EvalConfig(split=period), progress).folder
        found = artifacts.read(folder / "ranks.parquet", "ranks").select(["user", "target"]).to_pylist()
        assert found == [
            {"user": row["user"], "target": row["items"][row[f"{period}_begin"]]}
            for row in rows
            if row[f"{period}_target"]
        ]
    with pytest.raises(UserError, match="--horizon 2 needs a leave-one-out split"):
        train_run(data, plan_of(data, "maskgr", {}, {"horizon": 2}), progress, name="two")


def imported(workspace: Workspace, **options: str) -> None:
    """Make the data set "shop" anew, with 20 users of 9 items at 9 times."""
    file = workspace.root.parent / "shop.csv"
    rows = [(f"u{user}", f"i{(user + time) % 12}", 10**9 + time) for time in range(9) for user in range(20)]
    pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row").write_csv(file)
    shutil.rmtree(workspace.dataset("shop").path, ignore_errors=True)
    import_dataset(workspace, "shop", ImportConfig(**options), ListProgress(), interactions=[file])


def test_runs_that_saw_what_is_held_out_now_are_refused(workspace: Workspace, progress: ListProgress) -> None:
    temporal = {"split": "temporal", "validation_from": "0.5", "test_from": "0.8"}
    plan = Plan("shop", None, "sasrec", "test", model_config("sasrec", SIZES), TrainConfig(**SCHEDULE))
    imported(workspace, **temporal)
    first = train_run(workspace, plan, progress, name="first")
    assert first.read_config()["split"]["validation_from"] == 10**9 + 4
    imported(workspace, **temporal | {"validation_from": "0.7"})
    on = train_run(workspace, continued_plan(first, {}), progress, name="on")
    assert on.read_config()["split"]["validation_from"] == 10**9 + 6
    for options in ({}, temporal):
        imported(workspace, **options)
        with pytest.raises(UserError, match="--continue on: .* left out all interactions from 2001-09-09"):
            train_run(workspace, continued_plan(on, {}), progress, name="again")
        student = Plan(
            *("shop", "of-text", "maskgr", "test", model_config("maskgr", SIZES)),
            TrainConfig(**SCHEDULE, distill="on"),
        )
        with pytest.raises(UserError, match="--distill on: its training left out"):
            teacher_weights(workspace, student, workspace.run("student"), {})
    assert len(load_sequences(workspace.dataset("shop").sequences)) == 20
