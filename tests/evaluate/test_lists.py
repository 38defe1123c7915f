"""Coverage, Gini index, novelty and diversity of lists, against their definitions and another library."""

from __future__ import annotations

import math
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics.pairwise import cosine_distances

from pipelines import artifacts
from pipelines.evaluate import lists
from pipelines.evaluate.lists import measure_lists, read_lists

N = 8
COUNTS = np.array([8, 4, 2, 1, 1, 0, 0, 0])  # 16 interactions


def measured(*parts: list[list[int]], text: np.ndarray | None = None) -> dict[str, float]:
    table = measure_lists([np.array(part, np.int32) for part in parts], COUNTS, text)
    rows = table.to_pylist()
    assert {row["users"] for row in rows} == {sum(map(len, parts))}
    assert {row["k"] for row in rows} == {len(parts[0][0])} and {row["low"] for row in rows} == {None}
    return {row["metric"]: row["value"] for row in rows}


def test_values_worked_by_hand() -> None:
    """Items 0, 1, 2 and 6 are recommended, item 0 in three lists."""
    found = measured([[0, 1], [0, 2]], [[0, 6], [-1, -1]])
    assert found["coverage"] == 4 / 8
    # −log2 of 8/16, 4/16, 2/16; item 6 counts as one interaction of 16
    assert found["novelty"] == pytest.approx(((1 + 2) / 2 + (1 + 3) / 2 + (1 + 4) / 2) / 3)
    # shares 0 0 0 0 1/6 1/6 1/6 3/6, weights 2j − 9 = … 1 3 5 7
    assert found["gini"] == pytest.approx((1 / 6 + 3 / 6 + 5 / 6 + 7 * 3 / 6) / 7)


def test_the_ends_of_the_gini_index() -> None:
    assert measured([[3]] * 5)["gini"] == pytest.approx(1.0)
    assert measured([[item] for item in range(N)])["gini"] == pytest.approx(0.0)
    assert measured([[-1, -1]]) == {"coverage": 0.0, "gini": 0.0, "novelty": 0.0}


def test_the_gini_index_is_half_the_relative_mean_difference() -> None:
    """Its definition as a mean over all pairs of items (Gini 1912), unbiased."""
    rng = np.random.default_rng(0)
    parts = [rng.integers(0, N, (20, 3)).tolist() for _ in range(2)]
    numbers = np.bincount(np.array(parts).ravel(), minlength=N)
    differences = [abs(a - b) for a, b in combinations(numbers.tolist(), 2)]
    assert measured(*parts)["gini"] == pytest.approx(np.mean(differences) / (2 * numbers.mean()))


@pytest.mark.parametrize("cells", [1, 1 << 24])
def test_the_diversity_is_the_mean_distance_of_pairs(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As scikit-learn computes distances, in parts of any size; lists without a pair are left out."""
    monkeypatch.setattr(lists, "CELLS", cells)
    text = np.random.default_rng(1).normal(size=(N, 5)).astype(np.float32)
    text[5] = 0.0  # an item without text
    distances = cosine_distances(text)
    rows = [[0, 1, 2, 7], [5, 3, 6, -1], [4, -1, -1, -1], [-1, 2, -1, 3], [-1, -1, -1, -1]]
    real = [[item for item in row if item >= 0] for row in rows]
    expected = [np.mean([distances[pair] for pair in combinations(row, 2)]) for row in real if len(row) > 1]
    assert measured(rows[:2], rows[2:], text=text)["diversity"] == pytest.approx(np.mean(expected), rel=1e-5)


def test_lists_are_those_of_the_file(tmp_path: Path) -> None:
    """Their first ten beams; with a horizon, a list for each position."""
    items = [[1, None, 3], [], [*range(12)]]
    table = pa.table(
        {
            "user": pa.array([0, 1, 2], pa.int32()),
            "items": pa.array(items, pa.list_(pa.int32())),
            "scores": pa.array([[0.0] * len(row) for row in items], pa.list_(pa.float32())),
        }
    )
    artifacts.write(tmp_path / "recommendations.parquet", "recommendations", table, config={})
    (found,) = read_lists(tmp_path)
    none = [-1] * 10
    assert found.tolist() == [[1, -1, 3, *none[:7]], none, [*range(10)]]
    pairs = table.set_column(1, "items", pa.array([[1, 2, 3, 4], [], [*range(24)]], pa.list_(pa.int32())))
    artifacts.write(tmp_path / "recommendations.parquet", "recommendations", pairs, config={})
    (found,) = read_lists(tmp_path, 2)
    assert found.tolist() == [
        *([1, 3, *none[:8]], [2, 4, *none[:8]]),
        *(none, none),
        *([*range(0, 20, 2)], [*range(1, 20, 2)]),
    ]


def test_a_list_of_popular_items_has_little_novelty() -> None:
    assert measured([[0]])["novelty"] == -math.log2(8 / 16) < measured([[3]])["novelty"] == math.log2(16)
