"""The contract: written whole or not at all, with provenance; read only if it is what it says."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import artifacts
from pipelines.artifact_parts import read_parts
from pipelines.errors import UserError
from pipelines.processor import processor


def items(rows: int = 5, **columns: object) -> pa.Table:
    values = {
        "item": pa.array(range(rows), pa.int32()),
        "item_id": [f"i{r}" for r in range(rows)],
        "text": ["some text"] * rows,
    }
    return pa.table({**values, **columns})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "items.parquet"


def test_what_is_written_is_read(path: Path) -> None:
    artifacts.write(path, "items", items(), config={})
    assert artifacts.read(path, "items").equals(items())
    assert artifacts.read(path, "items", columns=["item_id"]).column_names == ["item_id"]
    assert [p.name for p in path.parent.iterdir()] == ["items.parquet"]


def test_provenance_says_where_it_comes_from(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts.time, "monotonic", lambda: 12.5)
    source = tmp_path / "source.txt"
    source.write_text("abc")
    artifacts.write(
        path,
        "items",
        items(),
        config={"seed": 3, "where": Path("x")},
        inputs={"source": source},
        started=10.0,
    )
    found = artifacts.provenance(path)
    assert found is not None
    assert found["stage"] == "items"
    assert found["config"] == {"seed": 3, "where": "x"}
    sha256_of_abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert found["inputs"] == {"source": {"path": "../source.txt", "sha256": sha256_of_abc}}
    assert found["seconds"] == 2.5
    assert {"version", "commit", "written", "machine"} <= found.keys()


def test_digest_is_of_the_content_alone(path: Path) -> None:
    def digest(table: pa.Table, **how: object) -> str:
        return artifacts.digest(
            artifacts.write(path, "items", table, config=dict(how), started=time.monotonic())
        )

    first = digest(items(), seed=1)
    assert digest(items(), seed=2) == first
    chunked = pa.concat_tables([items().slice(0, 2), items().slice(2)])
    assert digest(chunked) == first
    assert digest(items(text=["some text"] * 4 + ["other text"])) != first
    assert digest(items(more=range(5))) != first


class FailHalfway(pq.ParquetWriter):
    def write_table(self, *_: object) -> None:
        raise OSError("disk full")


def test_a_failed_write_leaves_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifacts.write(path, "items", items(), config={})
    before = path.read_bytes()
    with pytest.raises(UserError):
        artifacts.write(path, "items", items().drop_columns("text"), config={})
    monkeypatch.setattr(pq, "ParquetWriter", FailHalfway)
    with pytest.raises(
        UserError, match=r"items.parquet cannot be written in .*deep \(disk full\). Free space there"
    ):
        artifacts.write(path, "items", items(7), config={})
    with pytest.raises(TypeError):
        artifacts.write_json(path, {1: 1, "a": 1})
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["items.parquet"]


def test_why_an_artifact_is_stale(path: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for source in (one, two):
        source.write_text(source.name)
    assert artifacts.stale(path, {}, {}) == "items.parquet does not exist"
    config = {"seed": 1, "sizes": (2, 3)}
    artifacts.write(path, "items", items(), config=config, inputs={"reviews": one})
    assert artifacts.stale(path, config, {"reviews": one}) is None
    assert artifacts.stale(path) is None
    assert (
        artifacts.stale(path, {"seed": 2, "sizes": (2, 3), "new": None}) == "its configuration changed (seed)"
    )
    assert artifacts.stale(path, {"seed": 1, "layers": 4}) == "its configuration changed (layers, sizes)"
    assert artifacts.stale(path, config, {"reviews": two}) == "its reviews changed"
    assert artifacts.stale(path, config, {"reviews": one, "meta": two}) == "its meta changed"
    one.write_text("changed")
    assert artifacts.stale(path) == "its reviews changed"
    one.unlink()
    assert artifacts.stale(path) == "its reviews changed"
    path.write_bytes(b"PAR1")
    assert artifacts.stale(path) == "items.parquet is not readable"


def test_an_input_made_again_with_the_same_content_has_not_changed(path: Path, tmp_path: Path) -> None:
    source = artifacts.write(tmp_path / "source.parquet", "items", items(), config={"seed": 1})
    artifacts.write(path, "items", items(), config={}, inputs={"source": source})
    artifacts.write(source, "items", items(), config={"seed": 2})
    assert artifacts.stale(path) is None


BROKEN = {
    "missing column": (
        items().drop_columns("text"),
        "has no column 'text' \\(it has item, item_id\\); it is not of kind .items.",
    ),
    "wrong type": (items(text=[1, 2, 3, 4, 5]), "column text is int64, expected string"),
    "null": (items(text=["a", "b", None, "d", "e"]), "column text has no value in row 2"),
    "no rows": (items(0, text=pa.array([], pa.string())), "holds no rows"),
    "numbering": (
        items(item=pa.array([0, 1, 3, 2, 4], pa.int32())),
        "column item must count 0, 1, 2, …; row 2 holds 3",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_tables_are_neither_written_nor_read(path: Path, case: str) -> None:
    table, message = BROKEN[case]
    with pytest.raises(UserError, match=message):
        artifacts.write(path, "items", table, config={})
    assert not path.exists()
    path.parent.mkdir(exist_ok=True)
    pq.write_table(table, path)
    with pytest.raises(UserError, match=message) as raised:
        artifacts.read(path, "items")
    assert str(path) in str(raised.value)


def test_ranks_may_be_null_where_the_target_is_absent(path: Path) -> None:
    numbers = pa.array([0, 0], pa.int32())
    ranks = dict.fromkeys(artifacts.SCHEMAS["ranks"], numbers) | {"rank": pa.array([1, None], pa.int32())}
    assert artifacts.read(artifacts.write(path, "ranks", pa.table(ranks), config={}), "ranks")[
        "rank"
    ].to_pylist() == [1, None]
    with pytest.raises(UserError, match="column target has no value in row 1"):
        artifacts.write(path, "ranks", pa.table({**ranks, "target": ranks["rank"]}), config={})


def test_missing_and_foreign_files_say_what_to_do(path: Path) -> None:
    with pytest.raises(UserError, match="items.parquet does not exist. Run `maskgr embed` first."):
        artifacts.read(path, "items", hint="Run `maskgr embed` first.")
    path.parent.mkdir()
    path.write_text("item,item_id,text\n0,a,b\n")
    with pytest.raises(
        UserError, match="items.parquet is not a readable Parquet file .* Remove it and make it again"
    ):
        artifacts.read(path, "items")
    assert artifacts.provenance(path) is None


def test_no_truncation_and_no_flipped_byte_goes_unnoticed(path: Path) -> None:
    """Every damaged file is refused in one clear line or still read as what was written."""
    table = items(50, text=[f"text {i * i}" for i in range(50)])
    raw = artifacts.write(path, "items", table, config={}).read_bytes()
    for length in range(0, len(raw), 97):
        path.write_bytes(raw[:length])
        with pytest.raises(UserError, match="is not a readable Parquet file"):
            artifacts.read(path, "items")
    footer = len(raw) - 8 - int.from_bytes(raw[-8:-4], "little")
    refused = 0
    for place in (*range(0, footer, 3), *range(footer, len(raw), 11)):
        damaged = bytearray(raw)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        artifacts.stale(path)
        try:
            assert artifacts.read(path, "items").cast(table.schema).equals(table)
        except UserError:
            refused += place < footer
    assert refused > 0.8 * len(range(0, footer, 3))


def test_paths_and_files_that_cannot_be_leave_it_stale(path: Path) -> None:
    source = path.with_name("source.txt")
    source.parent.mkdir()
    source.write_text("abc")
    artifacts.write(path, "items", items(), config={}, inputs={"reviews": source})
    table, made = pq.read_table(path), artifacts.provenance(path)
    for where in ("9" * 5000, ".", "gone.txt"):
        changed = {**made, "inputs": {"reviews": {**made["inputs"]["reviews"], "path": where}}}
        pq.write_table(table.replace_schema_metadata({artifacts.PROVENANCE_KEY: json.dumps(changed)}), path)
        assert artifacts.stale(path) == "its reviews changed"
    for spoilt in (
        {**made, "inputs": 3},
        {**made, "inputs": {"reviews": "x"}},
        {**made, "sha256": 1},
        [],
        {**made, "config": None},
    ):
        pq.write_table(table.replace_schema_metadata({artifacts.PROVENANCE_KEY: json.dumps(spoilt)}), path)
        assert artifacts.provenance(path) is None
    assert artifacts.stale(path.with_name("9" * 5000)) == f"{'9' * 5000} does not exist"


def test_texts_that_are_no_utf_8_are_refused(path: Path) -> None:
    texts = pa.Array.from_buffers(pa.string(), 5, pa.array([b"a", b"\xff", b"c", b"d", b"e"]).buffers())
    path.parent.mkdir()
    pq.write_table(items(text=texts), path)
    with pytest.raises(UserError, match="items.parquet is not a readable Parquet file .*Invalid UTF8"):
        artifacts.read(path, "items")


def test_json_round_trip_and_refusal(tmp_path: Path) -> None:
    path = tmp_path / "a" / "config.json"
    artifacts.write_json(path, {"b": [1, 2.5], "a": None})
    assert json.loads(path.read_text()) == artifacts.read_json(path) == {"a": None, "b": [1, 2.5]}
    path.write_text('{"a": ')
    with pytest.raises(UserError, match="config.json cannot be read as JSON"):
        artifacts.read_json(path)
    with pytest.raises(UserError, match="nothing.json does not exist"):
        artifacts.read_json(tmp_path / "nothing.json")
    path.write_text('{"a": {"b": 1}}')
    with pytest.raises(UserError, match=r"config.json: a\.b is 1, expected text. Do that."):
        artifacts.read_json(path, dict[str, dict[str, str]], "Do that.")
    for spoilt in (b"[" * 100_000, b"[" * 50 + b"]" * 50, b"\xff", b"[" + b"9" * 5000 + b"]"):
        path.write_bytes(spoilt)
        with pytest.raises(UserError, match="config.json cannot be read as JSON"):
            artifacts.read_json(path, list)


@pytest.mark.parametrize("dtype", [np.int16, np.float16, np.float32])
def test_matrices_go_round(path: Path, dtype: type) -> None:
    values = np.arange(12).reshape(4, 3).astype(dtype)
    table = pa.table({"item": pa.array(range(4), pa.int32()), "sid": artifacts.fixed_size_list(values)})
    artifacts.write(path, "sids", table, config={})
    for found in (artifacts.read(path, "sids"), pa.concat_tables([table.slice(1, 2), table.slice(3)])):
        read = artifacts.matrix(found, "sid", path)
        assert read.dtype == dtype
        assert np.array_equal(read, values[-len(found) :])


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([[1, 2], [3, 4]]), "column sid is list<.*expected a fixed-size list"),
        (pa.array([[1, 2], None], pa.list_(pa.int16(), 2)), "column sid holds missing values"),
        (pa.array([[1, None], [1, 2]], pa.list_(pa.int16(), 2)), "column sid holds missing values"),
    ],
)
def test_columns_that_are_no_matrix(column: pa.Array, message: str) -> None:
    with pytest.raises(UserError, match=message):
        artifacts.matrix(pa.table({"sid": column}), "sid", Path("s.parquet"))


def test_provenance_names_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name, and the instructions that decide how fast training is; elsewhere what the system reports."""
    listed = (
        "processor\t: 0\nmodel name\t: Fast CPU\nflags\t\t: fpu avx2 avx512f avx512_bf16\n\n"
        "processor\t: 1\nmodel name\t: Other\n"
    )
    for text, expected in (
        (listed, "Fast CPU, avx2, avx512f, avx512_bf16"),
        ("Processor : 0", "Some processor"),
    ):
        monkeypatch.setattr(Path, "read_text", lambda *_, text=text, **__: text)
        monkeypatch.setattr("platform.processor", lambda: "Some processor")
        assert processor() == expected
    monkeypatch.undo()
    assert f"{os.cpu_count()} cores ({processor()})" in artifacts.machine()


@pytest.mark.parametrize("cut", [1, 3, 7, 8, 100])
def test_an_artifact_in_parts_is_that_of_the_whole(
    path: Path, cut: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts, "GROUP", 8)
    rows = 35
    flags = pa.array([None if n % 5 == 0 else n % 3 == 0 for n in range(rows)])
    tags = [[n] * (n % 3) for n in range(rows)]
    table = items(rows, text=[f"text {n}" for n in range(rows)], flag=flags, tags=tags)
    parts = [table.slice(start, cut) for start in range(0, rows, cut)]
    artifacts.write(path, "items", table, config={})
    whole = artifacts.digest(path)
    artifacts.write(path, "items", lambda: parts, config={})
    assert artifacts.digest(path) == whole == artifacts.table_digest(table)
    assert artifacts.read(path, "items").replace_schema_metadata(None).equals(table)
    assert pq.ParquetFile(path).metadata.num_row_groups == 5
    read = list(read_parts(path, "items", columns=["item", "flag"], rows=3))
    assert max(map(len, read)) <= 3
    assert pa.concat_tables(read).replace_schema_metadata(None).equals(table.select(["item", "flag"]))


def test_a_fault_in_a_later_part_is_named_by_its_row(path: Path) -> None:
    parts = [items(5), items(5)]
    with pytest.raises(UserError, match="row 5 holds 0"):
        artifacts.write(path, "items", lambda: parts, config={})
    assert not path.exists()
