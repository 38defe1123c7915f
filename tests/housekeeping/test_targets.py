"""Soft targets as a part of a workspace: they are listed, follow renamed teachers, and go with them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipelines import artifacts
from pipelines.housekeeping.parts import find_part
from pipelines.housekeeping.remove import dependents, remove, to_remove
from pipelines.housekeeping.rename import rename
from pipelines.inventory import overview
from pipelines.train.settings_file import read_settings
from pipelines.workspace import Workspace
from tests.conftest import ListProgress
from tests.test_inventory import write_run

NAME = "datasets/toy/targets/1x2-abc"


@pytest.fixture
def path(compared: Workspace) -> Path:
    """Soft targets of the run "first", of which "second" is a student."""
    dataset, teacher = compared.dataset("toy"), compared.run("first")
    teacher.weights.write_bytes(b"weights")
    columns = {"items": np.zeros((6, 2), np.int32), "probabilities": np.full((6, 2), 0.25, np.float16)}
    table = pa.table({name: artifacts.fixed_size_list(values) for name, values in columns.items()})
    inputs = {"sequences": dataset.sequences, "teacher 1": teacher.weights}
    config = {"teachers": [artifacts.digest(teacher.weights)], "items": 2}
    artifacts.write(dataset.targets("1x2-abc"), "targets", table, config=config, inputs=inputs)
    train = {"steps": 7, "minutes": None, "distill": "other,first"}
    student = write_run(compared, "second", train=train, teachers={"other": "0", "first": "1"})
    student.settings.write_text('name = "second"\ndistill = "other,first"\n')
    return dataset.targets("1x2-abc")


def test_they_are_listed_and_follow_a_renamed_teacher(
    compared: Workspace, path: Path, progress: ListProgress
) -> None:
    before = artifacts.digest(path)
    rename(compared, "runs/first", "best", progress)
    view = overview(compared).datasets[0].targets[0]
    assert (view.name, view.teachers, view.places, view.items) == ("1x2-abc", ["best"], 6, 2)
    assert view.stale is None and artifacts.digest(path) == before
    student = json.loads(compared.run("second").config.read_text())
    assert student["train"]["distill"] == "other,best"
    assert student["teachers"] == {"other": "0", "best": "1"}
    assert read_settings(compared.run("second").settings)["distill"] == "other,best"
    compared.run("best").weights.write_bytes(b"trained again")
    assert overview(compared).datasets[0].targets[0].stale == "its teacher 1 changed"


def test_a_teacher_protects_nothing_but_its_soft_targets(compared: Workspace, path: Path) -> None:
    teacher, targets = find_part(compared, "runs/first"), find_part(compared, NAME)
    assert NAME in [part.name for part in dependents(compared, [teacher])]
    assert "runs/second" not in [part.name for part in dependents(compared, [teacher])]
    assert not dependents(compared, [targets])
    parts = path.with_name(f".{path.stem}.parts")
    parts.mkdir()
    remove(compared, to_remove(compared, [NAME], with_dependents=False))
    assert not path.exists() and not parts.exists()
