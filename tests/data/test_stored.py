"""Sequences in files: the same as in memory, whatever their cut into row groups and chunks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.data.held_out import HeldOut
from pipelines.data.listing import ItemNumbers
from pipelines.data.sequences import load_sequences
from pipelines.data.splits import histories
from pipelines.data.stored import StoredSequences
from pipelines.errors import UserError
from pipelines.workspace import Workspace


@pytest.fixture
def path(toy: Workspace) -> Path:
    """The toy sequences, of other lengths, in row groups of 30 users."""
    path = toy.require_dataset().sequences
    table = pq.read_table(path)
    lists = [row[: 3 + user % 6] for user, row in enumerate(table["items"].to_pylist())]
    table = table.set_column(2, "items", pa.array(lists, pa.list_(pa.int32())))
    pq.write_table(table, path, row_group_size=30)
    return path


def rows(sequences) -> list[list[int]]:  # noqa: ANN001
    return [part.tolist() for part in np.split(sequences.items, sequences.offsets[1:-1])]


def test_groups_chunks_and_users_are_those_in_memory(path: Path) -> None:
    stored, memory = StoredSequences(path, 60), rows(load_sequences(path, 60))
    assert len(stored) == len(memory) == 200
    assert stored.groups.rows.tolist() == [30] * 6 + [20]
    assert stored.interactions == sum(map(len, memory))
    assert [row for group in range(7) for row in rows(stored.read(group))] == memory
    for size in (1000, 30, 7):
        chunks = list(stored.chunks(size))
        assert [row for _, part in chunks for row in rows(part)] == memory
        assert [first for first, _ in chunks] == list(range(0, 200, size))
    names = [name for _, ids, _ in stored.users(64) for name in ids.to_pylist()]
    assert names == stored.names().to_pylist() == [f"user-{user}" for user in range(200)]
    some = np.array([0, 29, 30, 31, 150, 199])
    assert rows(stored.of_users(some)) == [memory[user] for user in some]


@pytest.mark.parametrize("name", ["test", "validation"])
def test_a_split_in_chunks_is_that_in_memory(path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StoredSequences.chunks, "__defaults__", (45,))
    memory = histories(load_sequences(path, 60), name)
    split = HeldOut(StoredSequences(path, 60), name, 1, memory.warm_items)
    chunks = list(split.chunks())
    assert len(split) == 200
    assert len(chunks) == 5
    assert [row for chunk in chunks for row in rows(chunk)] == rows(memory)
    assert np.concatenate([chunk.targets for chunk in chunks]).tolist() == memory.targets.tolist()
    assert np.concatenate([chunk.users for chunk in chunks]).tolist() == list(range(200))
    one, other = split.sample(33, 5), memory.sample(33, 5)
    assert rows(one) == rows(other)
    assert (one.users.tolist(), one.targets.tolist()) == (other.users.tolist(), other.targets.tolist())
    assert split.sample(200, 5) is split


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ([[1, 2, 3], [4, 5]], r"row 31 has 2 item\(s\)"),
        ([[1, 2, 3], [4, 60, 5]], "column items holds 60 in row 31, expected 0 to 59"),
        ([[1, 2, None], [4, 6, 5]], "column items holds no number in row 30"),
    ],
)
def test_an_unusable_row_is_named_with_its_number(path: Path, lists: list, message: str) -> None:
    table = pq.read_table(path)
    items = table["items"].to_pylist()
    items[30:32] = lists
    table = table.set_column(2, "items", pa.array(items, pa.list_(pa.int32())))
    pq.write_table(table, path, row_group_size=30)
    with pytest.raises(UserError, match=message):
        StoredSequences(path, 60).read(1)
    with pytest.raises(UserError, match=message):
        list(StoredSequences(path, 60).chunks(50))


def test_what_is_no_file_of_sequences_is_refused(path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        StoredSequences(path.with_name("missing.parquet"))
    pq.write_table(pq.read_table(path, columns=["user", "items"]), path)
    with pytest.raises(UserError, match="has no column 'user_id'"):
        StoredSequences(path)
    path.write_bytes(b"PAR1 and nothing else")
    with pytest.raises(UserError, match="not a readable Parquet file"):
        StoredSequences(path)


@pytest.mark.parametrize("ids", [["7", "-3", "40", "5"], ["a", "b", "7", "07"]], ids=["numbers", "texts"])
@pytest.mark.parametrize(
    "kind", [pa.int64(), pa.int32(), pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())]
)
def test_numbers_of_items_are_those_of_a_dictionary(ids: list[str], kind: pa.DataType) -> None:
    numbers = {name: number for number, name in enumerate(ids)}
    given = ["7", "5", "41", "-3", None, "40", "-1", "7"]
    if not pa.types.is_integer(kind):
        given += ["07", "a", "zz", ""]
    values = [int(name) if name and pa.types.is_integer(kind) else name for name in given]
    found = ItemNumbers(pa.chunked_array([ids])).of(pa.array(values, kind))
    assert found.dtype == np.int32
    assert found.tolist() == [numbers.get(name, -1) for name in given]
