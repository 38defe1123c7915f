"""Leave-one-out by hand, against a loop over users, and by conservation of every interaction."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipelines import artifacts
from pipelines.data.sequences import Sequences, load_sequences
from pipelines.data.splits import histories, training
from pipelines.errors import UserError


def write_sequences(path: Path, lists: list[list[int | None]]) -> Path:
    columns = {
        "user": pa.array(range(len(lists)), pa.int32()),
        "user_id": [f"u{row}" for row in range(len(lists))],
        "items": pa.array(lists, pa.list_(pa.int32())),
    }
    return artifacts.write(path, "sequences", pa.table(columns), config={})


def rows(sequences: Sequences) -> list[list[int]]:
    return [
        sequences.items[a:b].tolist()
        for a, b in zip(sequences.offsets[:-1], sequences.offsets[1:], strict=True)
    ]


@pytest.fixture
def lists() -> list[list[int]]:
    rng = np.random.default_rng(7)
    return [rng.integers(0, 50, length).tolist() for length in rng.integers(3, 30, 300)]


def test_by_hand(tmp_path: Path) -> None:
    sequences = load_sequences(
        write_sequences(tmp_path / "sequences.parquet", [[5, 6, 7, 8], [1, 2, 3]]), n_items=9
    )
    validation, test = histories(sequences, "validation"), histories(sequences, "test")
    assert rows(training(sequences)) == [[5, 6], [1]]
    assert rows(validation) == [[5, 6], [1]] and validation.first_target.tolist() == [7, 2]
    assert rows(test) == [[5, 6, 7], [1, 2]] and test.first_target.tolist() == [8, 3]
    assert test.users.tolist() == [0, 1]
    assert test.padded(np.array([1, 0]), 5).tolist() == [[-1, 1, 2], [5, 6, 7]]
    assert test.padded(np.array([0, 1]), 2).tolist() == [[6, 7], [1, 2]]  # the most recent are kept
    assert test.padded(np.array([1]), 5).tolist() == [[1, 2]]  # no wider than the longest row asked for
    assert test.padded(np.array([], dtype=int), 5).shape == (0, 0)
    assert (test.truncated(1), test.truncated(2), test.truncated(3)) == (2, 1, 0)


def test_every_interaction_is_in_exactly_one_part(tmp_path: Path, lists: list[list[int]]) -> None:
    # Number every interaction apart, so that a leak or a loss cannot hide behind a repeated item.
    lengths = [len(items) for items in lists]
    ends = np.cumsum(lengths)
    apart = [list(range(end - length, end)) for end, length in zip(ends, lengths, strict=True)]
    sequences = load_sequences(write_sequences(tmp_path / "sequences.parquet", apart))
    train, validation, test = (
        training(sequences),
        histories(sequences, "validation"),
        histories(sequences, "test"),
    )
    parts = np.concatenate([train.items, validation.first_target, test.first_target])
    assert sorted(parts.tolist()) == list(range(sum(lengths)))
    assert rows(train) == rows(validation)
    assert rows(test) == [
        [*row, target] for row, target in zip(rows(train), validation.first_target.tolist(), strict=True)
    ]
    assert test.first_target.tolist() == [row[-1] for row in apart]
    for part in (train, validation, test):
        assert part.items.dtype == np.int32 and part.offsets.dtype == np.int64


def test_two_items_ahead_by_hand(tmp_path: Path) -> None:
    sequences = load_sequences(
        write_sequences(tmp_path / "sequences.parquet", [[1, 2, 3, 4, 5, 6], [5, 6, 7, 8, 0]])
    )
    validation, test = histories(sequences, "validation", 2), histories(sequences, "test", 2)
    assert rows(training(sequences, 2)) == rows(validation) == [[1, 2], [5]]
    assert validation.targets.tolist() == [[3, 4], [6, 7]]
    assert rows(test) == [[1, 2, 3, 4], [5, 6, 7]] and test.targets.tolist() == [[5, 6], [8, 0]]
    assert test.horizon == 2 and test.sample(1, 0).targets.shape == (1, 2)
    with pytest.raises(UserError, match="--horizon 3 needs 7 items of every user, and 2 users have fewer"):
        training(sequences, 3)


@pytest.mark.parametrize("max_items", [1, 4, 20, 100])
def test_padding_equals_a_loop_over_users(tmp_path: Path, lists: list[list[int]], max_items: int) -> None:
    split = histories(load_sequences(write_sequences(tmp_path / "sequences.parquet", lists)), "test")
    chosen = np.random.default_rng(1).permutation(len(lists))[:40]
    kept = [lists[row][:-1][-max_items:] for row in chosen]
    length = max(map(len, kept))
    padded = split.padded(chosen, max_items)
    assert padded.tolist() == [[-1] * (length - len(row)) + row for row in kept]
    assert padded.dtype == np.int32
    assert split.truncated(max_items) == sum(len(row) - 1 > max_items for row in lists)


def test_a_sample_keeps_users_histories_and_targets_together(tmp_path: Path, lists: list[list[int]]) -> None:
    split = histories(load_sequences(write_sequences(tmp_path / "sequences.parquet", lists)), "validation")
    sample, again, other = split.sample(50, seed=3), split.sample(50, seed=3), split.sample(50, seed=4)
    assert len(sample) == 50 and len(set(sample.users.tolist())) == 50
    assert rows(sample) == [lists[user][:-2] for user in sample.users]
    assert sample.first_target.tolist() == [lists[user][-2] for user in sample.users]
    assert sample.users.tolist() == again.users.tolist() != other.users.tolist()
    assert split.sample(300, seed=3) is split


@pytest.mark.parametrize(
    ("bad", "n_items", "words"),
    [
        ([[1, 2, 3], [4, 5], [6]], None, ["'u1'", "row 1", "2 item(s)", "2 user(s)"]),
        ([[1, 2, 3], [4, 5, 9]], 9, ["holds 9 in row 1", "0 to 8"]),
        ([[1, 2, 3], [4, -1, 5]], None, ["holds -1 in row 1"]),
        ([[1, None, 3]], None, ["no number in row 0"]),
    ],
)
def test_bad_sequences_are_named(
    tmp_path: Path, bad: list[list[int | None]], n_items: int | None, words: list[str]
) -> None:
    path = write_sequences(tmp_path / "sequences.parquet", bad)
    with pytest.raises(UserError) as error:
        load_sequences(path, n_items)
    assert all(word in str(error.value) for word in [str(path), *words])


def test_missing_file_and_unknown_split_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"sequences\.parquet does not exist"):
        load_sequences(tmp_path / "sequences.parquet")
    sequences = load_sequences(write_sequences(tmp_path / "sequences.parquet", [[1, 2, 3]]))
    with pytest.raises(UserError, match="'train'; it can be validation or test"):
        histories(sequences, "train")


def test_contains_is_membership_row_by_row() -> None:
    rng = np.random.default_rng(0)
    lists = [rng.integers(0, 30, n).tolist() for n in rng.integers(1, 12, 40)]
    sequences = Sequences(np.concatenate(lists).astype(np.int32), np.cumsum([0, *map(len, lists)]))
    asked = rng.integers(-1, 35, (40, 9))
    assert sequences.contains(asked).tolist() == [
        [item in row for item in items] for row, items in zip(lists, asked.tolist(), strict=True)
    ]
