"""The quality report against values counted by hand and by brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipelines.tokenize import quality
from pipelines.tokenize.quality import neighbor_agreement, quality_table
from pipelines.tokenize.quantization import group_equal


def test_values_counted_by_hand() -> None:
    codes = np.array([[0, 0], [0, 0], [0, 1], [1, 0], [1, 0], [1, 0], [2, 3], [3, 2]])
    vectors = np.arange(8, dtype=np.float32)[:, None]
    table = quality_table(vectors, codes, group_equal(codes)[0], [0.5, 0.125], codebook=16)
    found = {(row["level"], row["measure"]): row["value"] for row in table.to_pylist()}
    entropy = 2 * 3 / 8 * math.log2(8 / 3) + 2 * 1 / 8 * 3
    assert found[-1, "items"] == 8
    assert found[-1, "collisions"] == 5
    assert found[-1, "largest_group"] == 3
    assert found[-1, "neighbour_agreement"] == pytest.approx(
        (3 * 2 + 3 * 2) / (8 * 7)
    )  # all seven others are neighbours
    assert found[-1, "chance_agreement"] == pytest.approx((3 * 2 + 3 * 2) / (8 * 7))
    assert found[0, "codes_used"] == 4
    assert found[0, "entropy"] == pytest.approx(entropy)
    assert found[0, "entropy_share"] == pytest.approx(entropy / 4)
    assert [found[level, "relative_error"] for level in (0, 1)] == [0.5, 0.125]
    assert len(found) == 5 + 2 * 4
    without = quality_table(vectors, codes, group_equal(codes)[0], None, codebook=16)
    assert without.to_pylist() == [row for row in table.to_pylist() if row["measure"] != "relative_error"]


def agreement_by_brute_force(vectors: np.ndarray, first: np.ndarray, queries: list[int]) -> float:
    shares = []
    for item in queries:
        distance = np.square(vectors - vectors[item]).sum(axis=1)
        distance[item] = np.inf
        nearest = np.argsort(distance)[: quality.NEIGHBORS]
        shares.append(np.mean(first[nearest] == first[item]))
    return float(np.mean(shares))


def test_neighbours_by_brute_force(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(101, 6)).astype(np.float32)
    first = rng.integers(0, 3, 101)
    assert neighbor_agreement(vectors, first) == pytest.approx(
        agreement_by_brute_force(vectors, first, list(range(101)))
    )
    monkeypatch.setattr(quality, "QUERIES", 11)  # a larger catalogue is sampled evenly, ends included
    assert neighbor_agreement(vectors, first) == pytest.approx(
        agreement_by_brute_force(vectors, first, list(range(0, 101, 10)))
    )


def test_an_item_is_not_its_own_neighbour_even_among_equal_vectors() -> None:
    vectors = np.zeros((30, 3), np.float32)
    assert neighbor_agreement(vectors, np.arange(30)) == 0
    assert neighbor_agreement(vectors, np.zeros(30, np.int64)) == 1
