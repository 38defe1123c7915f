"""External lists against the evaluation of a run, a loop over users, and metrics by hand."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from pipelines import artifacts
from pipelines.data.sequences import load_sequences
from pipelines.decode.config import Decoding
from pipelines.errors import UserError
from pipelines.evaluate.compare import compare_runs
from pipelines.evaluate.config import EvalConfig
from pipelines.evaluate.external import Lists, check_settings, evaluate_lists, settings_for
from pipelines.evaluate.run import evaluate_run
from pipelines.evaluate.stored_ranks import read_ranking
from pipelines.external.read import read_lists
from pipelines.inventory import overview
from pipelines.train.run import train_run
from pipelines.workspace import Run, Workspace
from tests.conftest import ListProgress, write_toy
from tests.train.conftest import plan, write_sids


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, Run]:
    toy = write_toy(Workspace(tmp_path_factory.mktemp("trained") / "workspace"), users=120)
    return toy, train_run(toy, plan(write_sids(toy), steps=12, validations=1), ListProgress())


def exported(workspace: Workspace, folder: Path) -> pl.DataFrame:
    """Recommendations as another program would write them: user, item and score with identifiers."""
    dataset = workspace.require_dataset()
    users = pl.read_parquet(dataset.sequences, columns=["user", "user_id"])
    items = pl.read_parquet(dataset.items, columns=["item", "item_id"])
    lists = pl.read_parquet(folder / "recommendations.parquet").explode("items", "scores")
    lists = lists.join(users, on="user").join(items, left_on="items", right_on="item", how="left")
    return lists.select("user_id", pl.col("item_id").fill_null("no item"), score="scores")


@pytest.mark.parametrize("split", ["test", "validation"])
@pytest.mark.parametrize("settings", [{"constrained": False}, {"exclude_seen": True, "beams": 10}], ids=str)
def test_exported_recommendations_have_the_metrics_of_the_run(
    trained: tuple[Workspace, Run],
    tmp_path: Path,
    progress: ListProgress,
    split: str,
    settings: dict[str, Any],
) -> None:
    """All rows, intervals and the popularity row are equal, whatever the order of the lines."""
    workspace, run = trained
    config = EvalConfig(Decoding(**settings), split, precision="fp32")
    expected = evaluate_run(workspace, run, config, progress)
    table = exported(workspace, expected.folder).sample(fraction=1, shuffle=True, seed=0)
    assert settings.get("constrained", True) or (table["item_id"] == "no item").sum() > 100
    table.write_csv(tmp_path / "lists.csv")
    dataset = workspace.require_dataset()
    lists = read_lists(tmp_path / "lists.csv", dataset, progress)
    found = evaluate_lists(dataset, "ours", lists, settings_for(lists, config, progress), progress)
    assert found.metrics.equals(expected.metrics) and found.popularity.equals(expected.popularity)
    ours, theirs = read_ranking("ours", found.folder), read_ranking(run.name, expected.folder)
    assert ours.table.equals(theirs.table)
    _, differences = compare_runs(workspace, [(run.name, expected.folder), ("ours", found.folder)])
    assert {*differences["difference"].to_pylist()} == {0.0}


USERS = 40


@pytest.fixture
def small(workspace: Workspace) -> Workspace:
    return write_toy(workspace, users=USERS, items=20)


def drawn(seed: int) -> list[tuple[int, list[int]]]:
    """Lists of items with repetitions and −1; some users have none."""
    rng = np.random.default_rng(seed)
    users = np.flatnonzero(rng.random(USERS) < 0.8).tolist()
    return [(user, rng.integers(-2, 20, rng.integers(1, 15)).clip(-1).tolist()) for user in users]


def as_lists(path: Path, drawn: list[tuple[int, list[int]]]) -> Lists:
    users = np.repeat([user for user, _ in drawn], [len(items) for _, items in drawn])
    items = np.array([item for _, row in drawn for item in row])
    repeated = [item >= 0 and item in row[:place] for _, row in drawn for place, item in enumerate(row)]
    path.write_text("a file that the result names as its source")
    return Lists(path, users, items, np.array(repeated, dtype=bool))


def rank(items: list[int], history: list[int], target: int, exclude: bool, beams: int) -> int | None:
    """The rank of a target in a list, one entry at a time."""
    kept = [item for item in items if not (exclude and item in history)][:beams]
    return kept.index(target) + 1 if target in kept else None


@pytest.mark.parametrize("exclude", [False, True])
@pytest.mark.parametrize("split", ["test", "validation"])
def test_ranks_are_those_of_a_loop_over_users(
    small: Workspace, tmp_path: Path, progress: ListProgress, exclude: bool, split: str
) -> None:
    dataset, given = small.require_dataset(), drawn(3)
    sequences = load_sequences(dataset.sequences)
    rows = [
        sequences.items[a:b].tolist() for a, b in zip(sequences.offsets, sequences.offsets[1:], strict=False)
    ]
    back = 1 if split == "test" else 2
    config = EvalConfig(Decoding(beams=10, exclude_seen=exclude), split)
    found = evaluate_lists(dataset, "l", as_lists(tmp_path / "l.csv", given), config, progress)
    expected = [
        rank(dict(given).get(user, []), row[:-back], row[-back], exclude, 10) for user, row in enumerate(rows)
    ]
    assert artifacts.read(found.folder / "ranks.parquet", "ranks")["rank"].to_pylist() == expected
    assert sum(place is not None for place in expected) > 3
    prefix = "validation-" if split == "validation" else ""
    assert found.folder == dataset.external("l") / f"{prefix}k10{'-exclude-seen' * exclude}"
    seen = sum(item in rows[user][:-back] for user, items in given for item in items)
    action = "they are left out" if exclude else "--exclude-seen leaves them out"
    total = sum(len(items) for _, items in given)
    assert progress.messages == [
        f"{USERS - len(given)} of {USERS} users have no list and count as misses.",
        f"{seen} of {total} entries are items of the user's history: {action}.",
    ]


def test_metrics_by_hand(small: Workspace, tmp_path: Path, progress: ListProgress) -> None:
    """Of 40 users, one has its target first, one after what is no item and a repetition, one twice."""
    dataset = small.require_dataset()
    target = load_sequences(dataset.sequences).items.reshape(USERS, -1)[:, -1].tolist()
    others = [(target[2] + shift) % 20 for shift in range(1, 6)]
    given = [
        (0, [target[0]]),
        (2, [-1, others[0], others[0], target[2], others[1]]),
        (3, [(target[3] + 1) % 20, target[3], target[3], target[3]]),
        (5, [(target[5] + 1) % 20]),
    ]
    lists = as_lists(tmp_path / "l.csv", given)
    found = evaluate_lists(dataset, "l", lists, settings_for(lists, EvalConfig(), progress), progress)
    values = {(row["metric"], row["k"]): row["value"] for row in found.metrics.to_pylist()}
    assert values == {
        ("recall", 5): pytest.approx(3 / 40),
        ("ndcg", 5): pytest.approx((1 + 1 / math.log2(5) + 1 / math.log2(3)) / 40),
        ("invalid_rate", None): pytest.approx(1 / 200),
        ("duplicate_rate", None): pytest.approx(3 / 200),
    }
    assert "The longest list has 5 entries: --beams 5 in place of 20." in progress.messages
    row = artifacts.read(found.folder / "recommendations.parquet", "recommendations").to_pylist()
    assert row[2]["items"] == [None, others[0], None, target[2], others[1]]
    assert row[1]["items"] == [] and row[5]["scores"] == [0.0]
    assert found.description == "toy · lists of l.csv · 5 of 20 items"


def test_the_result_is_listed_and_becomes_stale_with_its_file(
    small: Workspace, tmp_path: Path, progress: ListProgress
) -> None:
    lists = as_lists(tmp_path / "l.csv", drawn(1))
    evaluate_lists(small.require_dataset(), "mine", lists, EvalConfig(Decoding(beams=5)), progress)
    (listed,) = overview(small).datasets[0].external
    assert (listed.name, listed.users, listed.stale) == ("mine/k5", USERS, None)
    lists.path.write_text("other lists")
    assert overview(small).datasets[0].external[0].stale == "its recommendations changed"


def test_settings_without_effect_are_refused(tmp_path: Path, progress: ListProgress) -> None:
    check_settings(EvalConfig(Decoding(beams=5, exclude_seen=True), "validation"))
    with pytest.raises(
        UserError, match="^--nfe, --no-constrained, --tokens have no effect on --recommendatio"
    ):
        check_settings(EvalConfig(Decoding(nfe=2, constrained=False), tokens=100))
    lists = as_lists(tmp_path / "l.csv", drawn(1))
    with pytest.raises(UserError, match="--horizon 2: --recommendations measures lists of single items"):
        settings_for(lists, EvalConfig(horizon=2), progress)
    kept = EvalConfig(Decoding(beams=lists.longest), horizon=1)
    assert settings_for(lists, dataclasses.replace(kept, horizon=None), progress) == kept
    assert progress.messages == []
