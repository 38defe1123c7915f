"""`maskgr eval --recommendations` as a person types it."""

from __future__ import annotations

import re
from pathlib import Path
from unittest import mock

import polars as pl
import pytest
from typer.testing import CliRunner, Result

from maskgr_cli import console
from maskgr_cli.app import app
from pipelines.errors import UserError
from pipelines.train.run import train_run
from pipelines.workspace import Workspace
from tests.conftest import ListProgress
from tests.train.conftest import plan, write_sids


@pytest.fixture
def lists(toy: Workspace, tmp_path: Path) -> Path:
    """Ten items for each user, of which the last is the one that follows the user's history."""
    sequences = pl.read_parquet(toy.require_dataset().sequences).select("user_id", "items")
    rows = [(u, f"item-{(row[-1] - 9 + n) % 60}") for u, row in sequences.iter_rows() for n in range(10)]
    pl.DataFrame(rows, ["user", "item"], orient="row").write_csv(tmp_path / "other.csv")
    return tmp_path / "other.csv"


def run(workspace: Workspace, *arguments: object) -> Result:
    command = ["eval", "--workspace", str(workspace.root), *map(str, arguments)]
    with mock.patch.object(console.out(), "_width", 200):
        return CliRunner().invoke(app, command, catch_exceptions=False)


def test_lists_are_measured_alone_and_compared_with_a_run(
    toy: Workspace, lists: Path, progress: ListProgress
) -> None:
    done = run(toy, "--recommendations", lists)
    assert "Test · toy · lists of other.csv · 10 of 60 items" in done.output
    assert re.search(r"│ other +│ +0.00 ±0.00 │ +100.00 ±0.00 │", done.output)
    assert "│ popularity │" in done.output
    train_run(toy, plan(write_sids(toy), steps=2, validations=1), progress, name="first")
    done = run(toy, "first", "--nfe", 1, "--recommendations", lists, "--name", "theirs")
    text = " ".join(done.output.split())  # the title may be wrapped
    assert "10 of 60 items" in text and "10 beams" in text  # K is that of the lists for both
    assert "Difference from first (percentage points)" in done.output
    assert (toy.comparisons("greedy-t1-k10-constrained", "first") / "theirs.parquet").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nfe", 1, "--recommendations", "FILE"], "--nfe has no effect on --recommendations without a run"),
        (
            ["--force", "--recommendations", "FILE"],
            "--force has no effect on --recommendations without a run",
        ),
        (["--diagnose", "--recommendations", "FILE"], "--diagnose has no effect"),
        (["--name", "x"], "--name x needs --recommendations"),
        (["--dataset", "toy"], "--dataset toy needs --recommendations"),
        (["--recommendations", "FILE", "--dataset", "none"], "No data set 'none'"),
    ],
)
def test_options_without_effect_are_refused(
    toy: Workspace, lists: Path, arguments: list[object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        run(toy, *(lists if word == "FILE" else word for word in arguments))


def test_lists_beside_runs_have_their_data_set_and_another_name(
    toy: Workspace, lists: Path, progress: ListProgress
) -> None:
    train_run(toy, plan(write_sids(toy), steps=2, validations=1), progress, name="other")
    with pytest.raises(UserError, match="other is the name of a run and of the lists"):
        run(toy, "other", "--recommendations", lists)
    with pytest.raises(UserError, match="--dataset x: run other was trained on toy"):
        run(toy, "other", "--recommendations", lists, "--name", "lists", "--dataset", "x")
    with pytest.raises(UserError, match="--recommendations has no effect on --diagnose"):
        run(toy, "other", "--recommendations", lists, "--diagnose")
