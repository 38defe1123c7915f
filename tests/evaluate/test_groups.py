"""Groups of targets: their borders, and metrics that are those of the users in them alone."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from pipelines.data.splits import Split
from pipelines.errors import UserError
from pipelines.evaluate.config import EvalConfig
from pipelines.evaluate.groups import grouped_metrics, grouping
from pipelines.evaluate.metrics import ranks_table
from pipelines.train.run import train_run
from pipelines.workspace import Workspace
from tests.conftest import ListProgress
from tests.train.test_leakage import data, plan_of

__all__ = ["data"]  # a fixture
N, K = 12, 5
COUNTS = np.array([0, 0, 1, 1, 1, 2, 3, 5, 8, 8, 9, 20])


def users(count: int = 40, horizon: int = 1) -> Split:
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 9, count)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Split(
        rng.integers(0, N, offsets[-1]).astype(np.int32),
        offsets,
        np.arange(100, 100 + count, dtype=np.int32),  # a chunk, or a sample
        rng.integers(0, N, (count, horizon)).astype(np.int32),
    )


def ranks_of(split: Split) -> pa.Table:
    rng = np.random.default_rng(1)
    shape = (len(split), K) if split.horizon == 1 else (len(split), K, split.horizon)
    none = np.zeros(len(split), np.int32)
    return ranks_table(split, rng.integers(0, N, shape), none, none)


def values_of(split: Split, by: str) -> np.ndarray:
    """What each target is grouped by."""
    if by == "history-length":
        return np.repeat(split.lengths, split.horizon)
    counts = COUNTS[split.targets.ravel()]
    return counts if by == "popularity" else (counts > 0).astype(int)


@pytest.mark.parametrize("horizon", [1, 2])
@pytest.mark.parametrize("by", ["popularity", "history-length", "cold"])
def test_a_group_is_measured_as_if_it_were_alone(by: str, horizon: int) -> None:
    split = users(horizon=horizon)
    ranks, values = ranks_of(split), values_of(split, by)
    halves = [ranks.slice(0, 20 * horizon), ranks.slice(20 * horizon)]
    found = grouped_metrics(grouping(by, split, COUNTS), lambda: halves, K)
    rank = np.array([r or 0 for r in ranks["rank"].to_pylist()])
    total = 0
    for label, table in found:
        if by == "cold":
            inside = values == ["cold", "warm"].index(label)
        else:
            low, high = ([int(end) for end in label.split(" to ")] * 2)[:2]
            inside = (low <= values) & (values <= high)
            assert values[inside].min() == low and values[inside].max() == high
        rows = {(row["metric"], row["k"]): row for row in table.to_pylist()}
        assert rows["recall", 5]["value"] == pytest.approx(np.mean(rank[inside] > 0))
        gains = np.where(rank[inside] > 0, 1 / np.log2(rank[inside] + 1.0 + (rank[inside] == 0)), 0.0)
        assert rows["ndcg", 5]["value"] == pytest.approx(gains.mean())
        assert rows["recall", 5]["low"] <= rows["recall", 5]["value"] <= rows["recall", 5]["high"]
        assert rows["recall", 5]["users"] == inside.sum()
        total += inside.sum()
    assert total == len(split) * horizon  # every target is in one group


def test_groups_are_quartiles_and_equal_values_stay_together() -> None:
    def labels(lengths: list[int]) -> tuple[str, ...]:
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        count = len(lengths)
        split = Split(
            np.zeros(offsets[-1], np.int32),
            offsets,
            np.arange(count, dtype=np.int32),
            np.zeros((count, 1), np.int32),
        )
        return grouping("history-length", split, COUNTS).labels

    assert labels([*range(1, 9)]) == ("1 to 2", "3 to 4", "5 to 6", "7 to 8")
    assert labels([3, 3, 3, 3, 3, 3, 3, 9]) == ("3", "9")
    assert labels([4] * 5) == ("4",)
    assert labels([1000, 2000]) == ("1,000", "2,000")


def test_groups_that_hold_nothing_are_left_out() -> None:
    split = users()
    ((label, _),) = grouped_metrics(grouping("cold", split, COUNTS + 1), lambda: [ranks_of(split)], K)
    assert label == "warm"
    with pytest.raises(UserError, match="--by 'age' is unknown; choose popularity, history-length, cold"):
        EvalConfig(by="age")


def test_the_command_prints_groups_and_lists(data: Workspace, progress: ListProgress) -> None:
    train_run(data, plan_of(data, "cooccurrence", {}, {"steps": 1}), progress, name="co")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "maskgr_cli", "eval", *arguments, "--workspace", str(data.root)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = run("co", "--by", "popularity", "--format", "json")
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert [row["run"] for row in content["lists"]] == ["co", "popularity"]
    popular = content["lists"][1]
    assert popular["coverage@10"] == 10 / 60 < content["lists"][0]["coverage@10"]
    assert popular["novelty@10"] < content["lists"][0]["novelty@10"]
    groups = [row for row in content["groups"] if row["run"].startswith("co, ")]
    assert 1 < len(groups) <= 4 and sum(row["users"] for row in groups) == 60
    recall = sum(row["recall@10"] * row["users"] for row in groups) / 60
    assert recall == pytest.approx(content["metrics"][0]["recall@10"])
    refused = run("co", "--by", "cold", "--diagnose")
    assert refused.returncode == 2 and "--by cold has no effect on --diagnose" in refused.stderr
