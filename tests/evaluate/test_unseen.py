"""Metrics without seen items, from stored lists, against a search that leaves these items out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipelines.data.splits import Split
from pipelines.decode.config import Decoding
from pipelines.evaluate.config import EvalConfig
from pipelines.evaluate.run import Evaluation, evaluate_run
from pipelines.evaluate.unseen import unseen, without_seen
from pipelines.train.run import train_run
from pipelines.workspace import Workspace
from tests.conftest import ListProgress
from tests.train.test_leakage import ITEMS, data, plan_of, write_sequences

__all__ = ["data"]  # a fixture


def split_of(histories: list[list[int]]) -> Split:
    offsets = np.cumsum([0, *map(len, histories)])
    items = np.array([item for history in histories for item in history], np.int32)
    count = len(histories)
    return Split(items, offsets, np.arange(count, dtype=np.int32), np.zeros((count, 1), np.int32))


def test_lists_close_up_where_seen_items_were() -> None:
    lists = np.array([[4, 7, 2, -1, 5], [4, 7, 2, 3, 5]], np.int32)
    left = unseen(split_of([[7, 9], [4, 4, 5]]), lists)
    assert left.tolist() == [[4, 2, 5, *[-1] * 7], [7, 2, 3, *[-1] * 7]]


@pytest.mark.parametrize("model", ["sasrec", "maskgr"])
def test_lists_of_the_whole_catalogue_give_what_a_search_without_seen_items_gives(
    data: Workspace, progress: ListProgress, model: str
) -> None:
    run = train_run(data, plan_of(data, model, {}, {}), progress, name="run")
    nfe = 1 if model == "maskgr" else None  # exact, whatever the number of beams

    def evaluated(**settings: object) -> Evaluation:
        return evaluate_run(data, run, EvalConfig(Decoding(nfe=nfe, **settings), precision="fp32"), progress)

    whole, searched = evaluated(beams=ITEMS), evaluated(beams=10, exclude_seen=True)
    found = whole.beside().unseen or without_seen(whole.folder, _users(data), ITEMS)
    expected = {(row["metric"], row["k"]): row["value"] for row in searched.metrics.to_pylist() if row["k"]}
    assert {(row["metric"], row["k"]): row["value"] for row in found.metrics.to_pylist()} == expected
    assert found.short == 0
    assert searched.beside().unseen is None


def test_short_lists_are_measured_by_what_they_had(data: Workspace, progress: ListProgress) -> None:
    run = train_run(data, plan_of(data, "sasrec", {}, {}), progress, name="run")
    done = evaluate_run(data, run, EvalConfig(Decoding(beams=7), precision="fp32"), progress)
    found = without_seen(done.folder, _users(data), 7)
    assert {row["k"] for row in found.metrics.to_pylist()} == {5}
    assert 0 < found.short <= 1


def _users(data: Workspace) -> Split:
    from pipelines.data.sequences import load_sequences
    from pipelines.data.splits import histories

    return histories(load_sequences(data.require_dataset().sequences), "test")


def test_the_command_prints_them_where_they_differ(data: Workspace, progress: ListProgress) -> None:
    """Users take an item several times, then the next one; their targets are new to them."""
    write_sequences(data, [[i, i, i, i, i, *[(i + 1) % ITEMS] * 2, (i + 2) % ITEMS] for i in range(ITEMS)])
    train_run(data, plan_of(data, "cooccurrence", {"popularity": 0.1}, {"steps": 1}), progress, name="co")

    def tables(*arguments: str) -> dict[str, list[dict[str, object]]]:
        command = [sys.executable, "-m", "maskgr_cli", "eval", "co", *arguments, "--format", "json"]
        done = subprocess.run(
            [*command, "--workspace", str(data.root)],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path.cwd(),
        )
        return json.loads(done.stdout)

    found = tables()
    assert found["unseen"][0]["ndcg@5"] == 1.0 > found["metrics"][0]["ndcg@5"]
    assert "unseen" not in tables("--exclude-seen")
