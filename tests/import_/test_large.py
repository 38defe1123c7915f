"""Files whose rows are not held in memory: the same data set, account and messages as from memory."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from pipelines import artifacts
from pipelines.errors import UserError
from pipelines.import_ import combined
from pipelines.import_.build import import_dataset
from pipelines.import_.config import ImportConfig
from pipelines.prepare import coded
from pipelines.prepare import dataset as prepare_dataset
from pipelines.readers import fields
from pipelines.workspace import Workspace
from tests.conftest import ListProgress

ROWS = 2_000


def log(rows: int = ROWS, seed: int = 0) -> pl.DataFrame:
    """Rows with repeated rows, equal times, rows without a user, item or time, and an odd id."""
    rng = np.random.default_rng(seed)
    user = [f"u{n:03}" if n else None for n in rng.integers(0, 300, rows)]
    item = [f"{n:02}" if n else "" for n in rng.integers(0, 80, rows)]
    time = [
        int(n) if n else None for n in 1_600_000_000 + rng.integers(0, 900, rows) * rng.integers(0, 2, rows)
    ]
    label = rng.integers(0, 2, rows)
    rating = [round(float(n), 1) for n in rng.uniform(-1, 5, rows)]
    table = {"user_id": user, "item_id": item, "time": time, "label": label, "rating": rating}
    return pl.DataFrame(table | {"note": [f'a "{n}", b' for n in range(rows)]})


def csv(table: pl.DataFrame, separator: str = ",") -> bytes:
    return table.write_csv(separator=separator).encode()


def parquet(table: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.write_parquet(buffer, row_group_size=700)
    return buffer.getvalue()


DAYS = pl.col("time").cast(pl.Int64) * 1000 + 86_400_000 * pl.int_range(pl.len())
DATES = log().with_columns(time=DAYS.cast(pl.Datetime("ms")).dt.to_string("%d.%m.%Y %H:%M"))
ISO = log().with_columns(time=DAYS.cast(pl.Datetime("ms")).dt.to_string("%Y-%m-%d %H:%M:%S"))
LISTS = log().drop_nulls().group_by("user_id", maintain_order=True).agg(pl.col("item_id"), pl.col("time"))
FLOATS = log().with_columns(user_id=pl.col("user_id").str.slice(1).cast(pl.Float64))
BAD = csv(log(600)) + csv(log())[40:].replace(b"\nu0", b"\nx,u0", 40)  # and rows of another length
FILES: dict[str, dict[str, bytes]] = {
    "csv": {"log.csv": csv(log())},
    "semicolons, a byte order mark, gzip": {"log.csv.gz": gzip.compress(b"\xef\xbb\xbf" + csv(log(), ";"))},
    "rows of another length": {"log.csv": BAD},
    "a quote without an end": {"log.csv": csv(log().drop("note")) + b'u001,"07,5,1,1.0\n' * 3},
    "dates, the day first": {"log.csv": csv(DATES)},
    "dates, the year first": {"log.csv": csv(ISO.drop("note"))},
    "numbers and dates": {"log.csv": csv(log().head(9)), "more.csv": csv(ISO)},
    "whole numbers as decimal ones": {"log.csv": csv(FLOATS)},
    "no header": {"log.csv": csv(log().drop("note", "label"))[len("user_id,item_id,time,rating\n") :]},
    "no times": {"log.csv": csv(log().drop("time"))},
    "parquet": {"log.parquet": parquet(log())},
    "categories and floats in parquet": {
        "log.parquet": parquet(FLOATS.with_columns(pl.col("item_id").cast(pl.Categorical)))
    },
    "lists in parquet": {"log.parquet": parquet(LISTS)},
    "nested parquet": {
        "log.parquet": parquet(log().select(pl.struct("user_id", "item_id").alias("e"), "time"))
    },
    "JSON Lines": {"log.jsonl": log().write_ndjson().encode()},
    "several formats and types": {
        "1.csv": csv(log(900, 1)),
        "2.parquet": parquet(log(900, 2).with_columns(pl.col("time").cast(pl.Float64))),
        "3.jsonl": log(300, 3).write_ndjson().encode(),
        "4.tsv": csv(log(900, 4).with_columns(label=pl.lit("x")), "\t"),
    },
    "Windows letters": {
        "log.csv": csv(log().with_columns(note=pl.lit("é")), ";").replace("é".encode(), b"\xe9")
    },
}
OPTIONS: dict[str, dict] = {
    "no header": {"columns": "user_id,item_id,time,rating"},
    "no times": {"time_column": "none", "newest_first": True},
    "dates, the day first": {"ties": "shuffle", "seed": 3},
}
SETTINGS = [({}, ""), ({"min_count": 5, "where": "rating > 0"}, ", k-core and a condition")]
CASES = [
    pytest.param(files, OPTIONS.get(name, {}) | more, id=name + words)
    for name, files in FILES.items()
    for more, words in (SETTINGS if name in ("csv", "parquet", "several formats and types") else SETTINGS[:1])
]


def made(
    root: Path, folder: Path, config: ImportConfig, monkeypatch: pytest.MonkeyPatch, *, large: bool
) -> tuple[list[str], dict[str, str]]:
    """Messages of an import, and digests of what it made; in pieces of some rows if large."""
    with monkeypatch.context() as patch:
        if large:
            patch.setattr(combined, "LARGE", 0)
            patch.setattr(combined, "PIECE", 250)
            patch.setattr(fields, "ROWS", 400)
            patch.setattr(coded, "PART", 100)
            patch.setattr(prepare_dataset, "ROWS", 128)
        progress = ListProgress()
        try:
            dataset = import_dataset(Workspace(root), "own", config, progress, interactions=[folder])
        except UserError as error:
            return [str(error)], {}
        kinds = ("interactions", "items", "sequences")
        return progress.messages, {kind: artifacts.digest(dataset.path / f"{kind}.parquet") for kind in kinds}


@pytest.mark.parametrize(("files", "options"), CASES)
def test_a_large_import_is_that_from_memory(
    files: dict[str, bytes], options: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    config = ImportConfig(**({"max_bad_rows": 0.7} | options))
    small, large = (
        made(tmp_path / str(large), folder, config, monkeypatch, large=large) for large in (False, True)
    )
    assert large == small
    assert bool(small[1]) or "units" in small[0][0] or "not a time" in small[0][0]


@pytest.mark.parametrize("name", ["csv", "parquet", "rows of another length"])
def test_too_many_bad_rows_are_named_alike(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    for file, data in FILES[name].items():
        (folder / file).write_bytes(data)
    found = [
        made(tmp_path / "w", folder, ImportConfig(), monkeypatch, large=large) for large in (False, True)
    ]
    assert found[0] == found[1]
    assert "rows cannot be used" in found[0][0][0]


def test_sequences_are_stored_in_row_groups(
    workspace: Workspace, progress: ListProgress, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "log.csv").write_bytes(csv(log()))
    monkeypatch.setitem(artifacts.GROUPS, "sequences", 50)
    config = ImportConfig(max_bad_rows=0.7)
    dataset = import_dataset(workspace, "own", config, progress, interactions=[tmp_path / "log.csv"])
    stored = pq.ParquetFile(dataset.sequences).metadata
    assert [stored.row_group(n).num_rows for n in range(stored.num_row_groups - 1)] == [50] * (
        stored.num_row_groups - 1
    )
    assert stored.num_row_groups > 3
