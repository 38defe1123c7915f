"""The popularity row against a loop over users."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.data.sequences import Sequences
from pipelines.data.splits import histories, training
from pipelines.evaluate import popularity


def sequences_of(lists: list[list[int]]) -> Sequences:
    return Sequences(np.concatenate(lists).astype(np.int32), np.cumsum([0, *map(len, lists)]))


def oracle(lists: list[list[int]], back: int, n_items: int, k: int) -> list[list[int]]:
    counts = [0] * n_items
    for items in lists:
        for item in items[:-2]:
            counts[item] += 1
    order = sorted(range(n_items), key=lambda item: (-counts[item], item))
    rows = [[item for item in order if item not in items[:-back]][:k] for items in lists]
    return [row + [-1] * (k - len(row)) for row in rows]


def test_by_hand() -> None:
    # Training: 2, 2, 0 and 2, 0, 1: item 2 three times, 0 twice, 1 once, 3 and 4 never.
    sequences = sequences_of([[2, 2, 0, 4, 4], [2, 0, 1, 3, 4]])
    found = popularity.recommend_popular(
        np.bincount(training(sequences).items, minlength=5),
        histories(sequences, "test"),
        k=3,
        exclude_seen=True,
    )
    assert found.tolist() == [[1, 3, -1], [4, -1, -1]]
    # The held-out items are not counted: 4 stands behind 3, though it is the most frequent of the two
    # targets.
    found = popularity.recommend_popular(
        np.bincount(training(sequences).items, minlength=5),
        histories(sequences, "validation"),
        k=3,
        exclude_seen=True,
    )
    assert found.tolist() == [[1, 3, 4], [3, 4, -1]]
    found = popularity.recommend_popular(
        np.bincount(training(sequences).items, minlength=5),
        histories(sequences, "test"),
        k=6,
        exclude_seen=False,
    )
    assert found.tolist() == [[2, 0, 1, 3, 4, -1]] * 2


@pytest.mark.parametrize("n_items", [12, 40, 500])  # histories cover nearly all, some, few of the items
@pytest.mark.parametrize(("split", "back"), [("validation", 2), ("test", 1)])
def test_equals_a_loop_over_users(
    n_items: int, split: str, back: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(popularity, "CELLS", 1000)  # many chunks
    rng = np.random.default_rng(n_items)
    lists = [(n_items * rng.random(length) ** 3).astype(int).tolist() for length in rng.integers(3, 40, 150)]
    sequences = sequences_of(lists)
    found = popularity.recommend_popular(
        np.bincount(training(sequences).items, minlength=n_items),
        histories(sequences, split),
        10,
        exclude_seen=True,
    )
    assert found.tolist() == oracle(lists, back, n_items, 10)
    assert found.dtype == np.int32
