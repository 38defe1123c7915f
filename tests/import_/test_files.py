"""The user's own files: formats, and files that cannot be read."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import polars as pl
import pytest

from pipelines.errors import UserError
from pipelines.import_.build import import_dataset
from pipelines.import_.config import ImportConfig
from pipelines.workspace import Workspace
from tests.conftest import ListProgress
from tests.import_.samples import EXPECTED, ITEMS, LOG, load


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "parquet", "csv.gz", "jsonl.gz"])
@pytest.mark.parametrize(
    "names",
    [
        ("user_id", "item_id", "timestamp"),
        ("reviewerID", "asin", "unixReviewTime"),
        ("userId", "movieId", "Date"),
    ],
)
def test_formats_and_common_names(
    workspace: Workspace, progress: ListProgress, tmp_path: Path, form: str, names: tuple
) -> None:
    log = LOG.rename(dict(zip(LOG.columns, names, strict=True)))
    if names[2] == "Date":
        log = log.with_columns(pl.format("2020-01-0{}T10:00:00Z", pl.col("Date")))
    plain = tmp_path / f"log.{form.removesuffix('.gz')}"
    {
        "csv": log.write_csv,
        "tsv": lambda p: log.write_csv(p, separator="\t"),
        "jsonl": log.write_ndjson,
        "parquet": log.write_parquet,
    }[form.removesuffix(".gz")](plain)
    path = tmp_path / f"log.{form}"
    if form.endswith(".gz"):
        path.write_bytes(gzip.compress(plain.read_bytes()))
    ITEMS.write_parquet(tmp_path / "items.parquet")
    dataset = import_dataset(
        workspace, "own", ImportConfig(), progress, interactions=[path], items=[tmp_path / "items.parquet"]
    )
    sequences, texts = load(dataset)
    assert sequences == EXPECTED
    assert texts == {
        "z": "Zed. a, b",
        "y": "",
        "x": "Ex",
        "w": "",
    }  # order of the items file, then what it lacks
    said = " ".join(progress.messages)
    assert "Users with at least 3 items, as leave-one-out needs: 7 → 6 interactions, 3 → 2 users" in said
    assert "1 of 4 items are not in the items file, e.g. w" in said
    assert "2 of 4 items have no text" in said


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_numbers_of_more_than_64_bits(
    workspace: Workspace, progress: ListProgress, tmp_path: Path, form: str
) -> None:
    """Whether of an id, a column that is not asked for or a time, which still orders."""
    path, text = tmp_path / f"log.{form}", LOG.with_columns(pl.lit(7).alias("extra"))
    for column, number in (("item_id", "2" * 30), ("extra", "2" * 30), ("timestamp", "2" * 30)):
        changed = text.with_columns(
            pl.col(column).cast(pl.String).replace({"x": number, "7": number, "3": number})
        )
        changed.write_csv(path) if form == "csv" else path.write_text(
            changed.write_ndjson().replace(f'"{number}"', number)
        )
        dataset = import_dataset(workspace, "own", ImportConfig(), progress, interactions=[path])
        assert load(dataset)[0]["ann"] == [
            i.replace("x", number) if column == "item_id" else i for i in EXPECTED["ann"]
        ]


@pytest.mark.parametrize("packed", [False, True])
def test_deep_json_lines_are_named(
    workspace: Workspace, progress: ListProgress, tmp_path: Path, packed: bool
) -> None:
    deep = '{"a":' * 990 + "1" + "}" * 990
    lines = (
        LOG.write_ndjson() + f'{{"user_id": "u", "item_id": "i", "timestamp": 1, "note": {deep}}}\n'
    ).encode()
    path = tmp_path / ("log.jsonl.gz" if packed else "log.jsonl")
    path.write_bytes(gzip.compress(lines) if packed else lines)
    with pytest.raises(UserError, match=r"log.jsonl.*, line 9 is nested more than 32 levels deep"):
        import_dataset(workspace, "own", ImportConfig(), progress, interactions=[path])
    path.write_bytes(
        lines.replace(deep.encode(), json.dumps(deep + "\\").encode())
    )  # in a text it is no nesting
    assert (
        load(import_dataset(workspace, "own", ImportConfig(), progress, interactions=[path]))[0] == EXPECTED
    )
