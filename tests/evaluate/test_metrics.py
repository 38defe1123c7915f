"""Metrics by hand, their laws, and the bootstrap against drawing users one by one."""

from __future__ import annotations

from math import log2

import numpy as np
import pyarrow as pa
import pytest

from pipelines.data.splits import Split
from pipelines.errors import UserError
from pipelines.evaluate.config import CUTOFFS
from pipelines.evaluate.metrics import bootstrap_means, metrics_table, rank_targets, ranks_table


def ranks(
    values: list[int], invalid: list[int] | None = None, duplicates: list[int] | None = None
) -> pa.Table:
    """Ranks by hand; 0 is absent."""
    zeros = [0] * len(values)
    columns = {
        "user": range(len(values)),
        "position": zeros,
        "target": zeros,
        "rank": [v or None for v in values],
        "invalid": invalid or zeros,
        "duplicates": duplicates or zeros,
    }
    return pa.table({name: pa.array(column, pa.int32()) for name, column in columns.items()})


def values(metrics: pa.Table) -> dict[tuple[str, int | None], float]:
    return {(row["metric"], row["k"]): row["value"] for row in metrics.to_pylist()}


def test_ranks_by_hand() -> None:
    recommended = np.array([[4, 2, 9], [-1, 2, 7], [3, 3, 5], [3, 3, 5], [-1, -1, -1]])
    # found second; an invalid beam keeps its place; a repeated item counts once, where it stands first
    assert rank_targets(recommended, np.array([2, 7, 3, 5, 1])).tolist() == [2, 3, 1, 3, 0]
    assert (
        rank_targets(recommended, np.array([1, 0, 9, 4, -1])).tolist() == [0] * 5
    )  # no target is found in an invalid beam


def test_only_the_whole_item_matches() -> None:
    sids = np.array([[0, 1, 0], [0, 1, 1], [2, 1, 0]])  # items 0 and 1 differ in the deduplication digit only
    catalogue = {tuple(sid): item for item, sid in enumerate(sids.tolist())}
    beams = [[(0, 1, 1), (2, 1, 0), (0, 1, 2)]]
    recommended = np.array([[catalogue.get(beam, -1) for beam in user] for user in beams])
    assert [rank_targets(recommended, np.array([item]))[0] for item in range(3)] == [0, 1, 2]


def test_metrics_by_hand() -> None:
    table = metrics_table(ranks([1, 3, 7, 0], invalid=[0, 5, 1, 0], duplicates=[0, 0, 2, 0]), list_length=10)
    expected = {
        ("recall", 5): 2 / 4,
        ("recall", 10): 3 / 4,
        ("ndcg", 5): (1 + 1 / log2(4)) / 4,
        ("ndcg", 10): (1 + 1 / log2(4) + 1 / log2(8)) / 4,
        ("invalid_rate", None): 6 / 40,
        ("duplicate_rate", None): 2 / 40,
    }  # 20 and 40 are not defined for lists of ten
    assert values(table) == pytest.approx(expected)
    assert table["users"].to_pylist() == [4] * 6
    assert set(values(metrics_table(ranks([1, 3]), list_length=4))) == {
        ("invalid_rate", None),
        ("duplicate_rate", None),
    }


def test_all_hits_first_and_no_hits() -> None:
    first, none = (values(metrics_table(ranks([rank] * 20), list_length=40)) for rank in (1, 0))
    for metric in ("recall", "ndcg"):
        assert [first[metric, k] for k in CUTOFFS] == [1.0] * 4
        assert [none[metric, k] for k in CUTOFFS] == [0.0] * 4


def test_laws_on_random_ranks() -> None:
    table = metrics_table(ranks(np.random.default_rng(0).integers(0, 41, 500).tolist()), list_length=40)
    found = values(table)
    for metric in ("recall", "ndcg"):
        assert [found[metric, k] for k in CUTOFFS] == sorted(found[metric, k] for k in CUTOFFS)
    assert all(found["ndcg", k] <= found["recall", k] for k in CUTOFFS)
    for row in table.to_pylist():
        assert row["low"] <= row["value"] <= row["high"]


def test_the_order_of_users_changes_nothing_and_the_seed_is_kept() -> None:
    given = np.random.default_rng(0).integers(0, 41, 500)
    table = metrics_table(ranks(given.tolist()), 40, seed=5)
    assert table.equals(metrics_table(ranks(given[::-1].tolist()), 40, seed=5))
    assert not table.equals(metrics_table(ranks(given.tolist()), 40, seed=6))


def test_bootstrap_agrees_with_drawing_users() -> None:
    rng = np.random.default_rng(0)
    given = np.where(rng.random(400) < 0.3, rng.integers(1, 11, 400), 0)
    gains = np.where(
        np.arange(11) > 0, 1 / np.log2(np.arange(11) + 1, where=np.arange(11) > 0, out=np.ones(11)), 0
    )
    literal = gains[given[rng.integers(0, 400, (20_000, 400))]].mean(axis=1)
    exact = np.concatenate(
        [bootstrap_means(np.bincount(given, minlength=11), gains[:, None], rng) for _ in range(10)]
    )[:, 0]
    assert exact.mean() == pytest.approx(literal.mean(), rel=0.01)
    assert exact.std() == pytest.approx(literal.std(), rel=0.03)
    tails = [0.025, 0.975]
    assert np.quantile(exact, tails) == pytest.approx(np.quantile(literal, tails), abs=0.1 * literal.std())


def test_interval_of_recall_is_the_binomial_one() -> None:
    table = metrics_table(ranks([1] * 2000 + [0] * 8000), list_length=5)
    recall = next(row for row in table.to_pylist() if row["metric"] == "recall")
    half = 1.96 * (0.2 * 0.8 / 10_000) ** 0.5
    assert recall["low"] == pytest.approx(0.2 - half, abs=0.1 * half)
    assert recall["high"] == pytest.approx(0.2 + half, abs=0.1 * half)


@pytest.mark.parametrize(
    ("column", "value"), [("rank", 11), ("rank", -1), ("invalid", 11), ("duplicates", 12)]
)
def test_counts_beyond_the_list_are_refused(column: str, value: int) -> None:
    given = {"values": [1, 2], "invalid": [0, 0], "duplicates": [0, 0]}
    given["values" if column == "rank" else column] = [1, value]
    with pytest.raises(UserError, match=f"column {column} holds {value} in row 1"):
        metrics_table(ranks(**given), list_length=10)


def test_ranks_table_by_hand() -> None:
    users, targets = np.array([4, 8], np.int32), np.array([3, 0], np.int32)
    split = Split(np.array([1, 2], np.int32), np.array([0, 1, 2]), users, targets[:, None])
    table = ranks_table(split, np.array([[5, 3], [1, -1]]), np.array([0, 1]), np.array([0, 0]))
    assert table.to_pydict() == {
        "user": [4, 8],
        "position": [0, 0],
        "target": [3, 0],
        "rank": [2, None],
        "invalid": [0, 1],
        "duplicates": [0, 0],
    }


def test_two_items_ahead_by_hand() -> None:
    """Each place has a ranking of its own, with repeats where beams share an item; a user's recall is the
    mean over places.
    """
    users, targets = np.array([4, 8], np.int32), np.array([[3, 6], [0, 1]], np.int32)
    split = Split(np.array([1, 2], np.int32), np.array([0, 1, 2]), users, targets)
    beams = np.array(
        [[[5, 6], [5, 2], [3, 6]] + [[7, -1]] * 7, [[0, 0], [2, 1], [-1, 1]] + [[2, 2]] * 7]
    )  # [B, K, k]
    table = ranks_table(split, beams, np.array([7, 1]), np.array([0, 0]))
    assert table["user"].to_pylist() == [4, 4, 8, 8]
    assert table["position"].to_pylist() == [0, 1, 0, 1]
    assert table["rank"].to_pylist() == [3, 1, 1, 2]
    table = ranks_table(
        split, np.where(beams == 0, 9, beams), np.array([7, 1]), np.array([0, 0])
    )  # one of four targets is gone
    metrics = metrics_table(table, 10)
    expected = {
        ("recall", 5): (1 + 0.5) / 2,
        ("recall", 10): (1 + 0.5) / 2,
        ("ndcg", 5): ((1 / 2 + 1) / 2 + (1 / log2(3)) / 2) / 2,
        ("ndcg", 10): ((1 / 2 + 1) / 2 + (1 / log2(3)) / 2) / 2,
        ("invalid_rate", None): 8 / 20,
        ("duplicate_rate", None): 0.0,
    }
    assert values(metrics) == pytest.approx(expected)
    assert set(metrics["users"].to_pylist()) == {2}
    assert {row["low"] for row in metrics.to_pylist() if row["metric"] == "recall"} == {
        0.5
    }  # users are drawn, not places
