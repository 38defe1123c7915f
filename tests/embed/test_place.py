"""Items without a vector: co-occurrences counted by hand, and nothing of the held-out items."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines import artifacts
from pipelines.data.sequences import Sequences
from pipelines.embed import place
from pipelines.embed.build import build_embeddings
from pipelines.embed.config import EmbedConfig
from pipelines.workspace import Dataset
from tests.conftest import ListProgress
from tests.embed.conftest import write_items, write_sequences
from tests.embed.test_lsa import read

ROWS = [[0, 1, 0, 2], [2, 3], [4]]


def sequences(rows: list[list[int]]) -> Sequences:
    offsets = np.cumsum([0, *map(len, rows)])
    return Sequences(np.concatenate(rows).astype(np.int32), offsets)


def test_pairs_of_a_user_count_by_their_distance_up_to_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = np.zeros((5, 5))
    for row in ROWS:
        for i, first in enumerate(row):
            for j, second in enumerate(row):
                if first != second and abs(i - j) <= 2:
                    expected[first, second] += 1 / abs(i - j)
    monkeypatch.setattr(place, "WINDOW", 2)
    np.testing.assert_allclose(place.co_occurrences(sequences(ROWS), 5).toarray(), expected)
    assert expected[0, 2] == 1 and expected[1, 2] == 0.5 and not expected[4].any()


def test_an_item_takes_the_mean_of_those_near_it_or_of_all() -> None:
    counts = place.co_occurrences(sequences([[0, 1, 2], [3, 2]]), 5)
    values = np.array([[1, 0], [0, 1], [3, 3]], np.float32)  # of items 0, 1, 3
    means, alone = place.place(counts, values, np.array([0, 1, 3]), np.array([2, 4]))
    np.testing.assert_allclose(means[0], (0.5 * values[0] + values[1] + values[2]) / 2.5)
    np.testing.assert_allclose(means[1], values.mean(0), rtol=1e-6)
    assert alone == 1


def test_items_without_text_take_their_place_and_it_is_said(dataset: Dataset, progress: ListProgress) -> None:
    """Items 1, 3 and 4 have no text that lsa uses. In training 1 is near 0, 3 near 0 and 2."""
    write_items(dataset, ["red soap", "", "blue oil", " \n", "***", "green brush"])
    users = [[0, 1, 5, 5], [0, 3, 4, 4], [3, 2, 1, 4], [5, 4, 1]]
    write_sequences(dataset, users)
    build_embeddings(dataset, EmbedConfig(dimensions=3), progress)
    values = read(dataset)
    assert (
        "3 of 6 items have no vector of their own and take the mean of the items that they co-occur with in "
        "training; 1 of them co-occur with none and take the mean of all." in progress.messages
    )
    expected = {1: values[0], 3: values[0] + values[2], 4: values[0] + values[2] + values[5]}
    for item, vector in expected.items():
        np.testing.assert_allclose(values[item], vector / np.linalg.norm(vector), rtol=1e-5)


def test_held_out_items_move_nothing_and_training_items_do(dataset: Dataset, progress: ListProgress) -> None:
    rng = np.random.default_rng(0)
    write_items(dataset, [f"red {i}" if i % 3 else "" for i in range(12)])
    users = rng.integers(0, 12, (30, 8)).tolist()
    digests = {}
    for name, changed in (
        ("same", users),
        ("held-out", [[*user[:-2], *rng.integers(0, 12, 2).tolist()] for user in users]),
        ("training", [[user[0], *rng.integers(0, 12, 5).tolist(), *user[-2:]] for user in users]),
    ):
        write_sequences(dataset, changed)
        for encoder in ("lsa", "interactions"):
            build_embeddings(dataset, EmbedConfig(encoder=encoder, dimensions=4), progress, force=True)
            digests[name, encoder] = artifacts.digest(dataset.embeddings(encoder))
    for encoder in ("lsa", "interactions"):
        assert digests["same", encoder] == digests["held-out", encoder] != digests["training", encoder]


def test_sequences_are_an_input_where_an_item_took_its_place_by_them(
    dataset: Dataset, progress: ListProgress
) -> None:
    build_embeddings(dataset, EmbedConfig(dimensions=3), progress)
    assert "sequences" not in artifacts.provenance(dataset.embeddings("lsa"))["inputs"]
    write_items(dataset, ["red soap", "", "blue soap", "blue oil"])
    build_embeddings(dataset, EmbedConfig(dimensions=3), progress)
    write_sequences(dataset, [[0, 1, 2, 3]] * 5)
    build_embeddings(dataset, EmbedConfig(dimensions=3), progress)
    assert "Making embeddings lsa of toy again: its sequences changed." in progress.messages
