"""Columns of the user's own files: found by name, identifiers, texts and times."""

from __future__ import annotations

import datetime
import decimal
from pathlib import Path

import polars as pl
import pytest

from pipelines.errors import UserError
from pipelines.import_.build import import_dataset
from pipelines.import_.config import ImportConfig
from pipelines.import_.tables import read_tables
from pipelines.workspace import Workspace
from tests.conftest import ListProgress
from tests.import_.samples import EXPECTED, ITEMS, LOG, load


def test_ids_in_csv_stay_as_they_are_written(
    workspace: Workspace, progress: ListProgress, tmp_path: Path
) -> None:
    LOG.with_columns(pl.col("item_id").replace({"x": "007", "y": "7", "z": "0", "w": "00"})).write_csv(
        tmp_path / "log.csv"
    )
    pl.DataFrame({"asin": ["007", "B1"], "title": ["Bond", "-"]}).write_csv(tmp_path / "items.csv")
    dataset = import_dataset(
        workspace,
        "own",
        ImportConfig(),
        progress,
        interactions=[tmp_path / "log.csv"],
        items=[tmp_path / "items.csv"],
    )
    assert load(dataset) == (
        {"ann": ["7", "0", "007"], "bob": ["007", "7", "00"]},
        {"007": "Bond", "7": "", "0": "", "00": ""},
    )


@pytest.mark.parametrize(
    ("times", "order"),
    [
        (
            ["2020-01-01T12:00:00+02:00", "2020-01-01T11:00:00Z", "2020-01-01 10:30"],
            "xzy",
        ),  # 10:00, 11:00 and 10:30 UTC
        (["2020-01-02", "2020-01-01T23:59:59.999999", "2020-01-01T23:59:59.999998"], "zyx"),
        ([str(1_400_000_000_000_000_000 + i) for i in (2, 1, 0)], "zyx"),  # nanoseconds: too long for a float
        (["1.5", "1e-3", "1"], "yzx"),
    ],
    ids=["offsets", "fractions", "nanoseconds", "floats"],
)
def test_times_in_text(
    workspace: Workspace, progress: ListProgress, tmp_path: Path, times: list[str], order: str
) -> None:
    pl.DataFrame({"user": ["ann"] * 3, "item": list("xyz"), "time": times}).write_ndjson(
        tmp_path / "log.jsonl"
    )
    dataset = import_dataset(workspace, "own", ImportConfig(), progress, interactions=[tmp_path])
    assert load(dataset)[0] == {"ann": list(order)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"timestamp": pl.Series([1.0, float("nan")] * 4)},
            "4 have a time that .*row 2: timestamp is nan",
        ),
        ({"timestamp": pl.Series([datetime.time(1)] * 8)}, "holds Time values, which are not times"),
        (
            {"item_id": pl.Series(["x", ""] * 4)},
            "4 of 8 rows .*: 4 have no item, .*row 2: item_id is ''",
        ),
        ({"item_id": pl.Series([1.5] * 8)}, "ids must be text or whole numbers"),
        ({"item_id": pl.Series([datetime.timedelta(1)] * 8)}, "ids must be text or whole numbers"),
        (
            {"timestamp": pl.Series([datetime.timedelta(1)] * 8)},
            "holds Duration.* values, which are not times",
        ),
        (
            {"user_id": pl.Series([b"ann", b"\xff"] * 4)},
            "column user_id holds bytes that are not UTF-8, first in row 2",
        ),
        ({"a\0b": pl.Series([1] * 8)}, r"column 'a\\x00b' has a NUL in its name"),
    ],
    ids=["nan", "time of day", "empty id", "float id", "duration id", "duration", "bytes", "NUL"],
)
def test_values_that_mean_nothing(
    workspace: Workspace, progress: ListProgress, tmp_path: Path, change: dict, message: str
) -> None:
    LOG.with_columns(**change).write_parquet(tmp_path / "log.parquet")
    with pytest.raises(UserError, match=message):
        import_dataset(workspace, "own", ImportConfig(), progress, interactions=[tmp_path / "log.parquet"])


def test_one_column_is_not_two(workspace: Workspace, progress: ListProgress, tmp_path: Path) -> None:
    LOG.write_csv(tmp_path / "log.csv")
    with pytest.raises(UserError, match="need a column each, not item_id, item_id and timestamp"):
        import_dataset(
            workspace, "own", ImportConfig(user_column="item_id"), progress, interactions=[tmp_path]
        )


def test_ids_may_be_bytes_or_decimals(workspace: Workspace, progress: ListProgress, tmp_path: Path) -> None:
    ids = {
        "x": decimal.Decimal(10**25),
        "y": decimal.Decimal(2),
        "z": decimal.Decimal(3),
        "w": decimal.Decimal(4),
    }
    log = LOG.with_columns(
        pl.col("user_id").cast(pl.Binary),
        pl.Series("item_id", [ids[i] for i in LOG["item_id"]], pl.Decimal(38, 0)),
    )
    log.write_parquet(tmp_path / "log.parquet")
    dataset = import_dataset(
        workspace, "own", ImportConfig(), progress, interactions=[tmp_path / "log.parquet"]
    )
    assert load(dataset)[0] == {"ann": ["2", "3", str(10**25)], "bob": [str(10**25), "2", "4"]}


@pytest.mark.parametrize(
    ("kind", "day", "seconds"),
    [(pl.Date(), 1, 86_400.0)]
    + [
        (pl.Datetime(unit), 86_400 * factor, 86_400.0)
        for unit, factor in (("ms", 10**3), ("us", 10**6), ("ns", 10**9))
    ]
    + [(pl.Datetime("ms"), 2**63 - 1, (2**63 - 1) / 1e3)],  # which no calendar has
)
def test_instants_become_seconds(
    tmp_path: Path, progress: ListProgress, kind: pl.DataType, day: int, seconds: float
) -> None:
    times = pl.Series([0, day], dtype=pl.Int32 if kind == pl.Date() else pl.Int64).cast(kind)
    pl.DataFrame({"user": ["a", "b"], "item": ["x", "y"], "date": times}).write_parquet(
        tmp_path / "log.parquet"
    )
    tables, _ = read_tables([tmp_path / "log.parquet"], [], ImportConfig(), progress)
    assert tables.interactions["timestamp"].to_list() == [0.0, seconds]


@pytest.mark.parametrize(
    ("items", "config", "text"),
    [
        (ITEMS.rename({"title": "text"}), {}, "Zed. a, b"),
        (
            ITEMS.rename({"item_id": "sku", "title": "item_id", "tags": "item"}),
            {"item_column": "sku"},
            "Zed. a, b",
        ),
        (
            ITEMS.with_columns(pl.lit("1").alias("text"), pl.lit("2").alias("text_given")),
            {},
            "Zed. a, b. 1. 2",
        ),
        (ITEMS.rename({"item_id": "id"}), {}, "Zed. a, b"),
        (ITEMS, {"text_columns": "title, title"}, "Zed"),
        (ITEMS.with_columns(pl.col("title").cast(pl.Categorical)), {}, "Zed. a, b"),
        (ITEMS.with_columns(tags=pl.Series([["a", "b"]] * 4, dtype=pl.Array(pl.String, 2))), {}, "Zed. a, b"),
    ],
    ids=["text", "item and item_id", "text and text_given", "id", "twice", "categorical", "array"],
)
def test_items_files_as_people_have_them(
    workspace: Workspace, progress: ListProgress, tmp_path: Path, items: pl.DataFrame, config: dict, text: str
) -> None:
    LOG.rename({"item_id": config.get("item_column", "item_id")}).write_csv(tmp_path / "log[1].csv")
    items.write_parquet(tmp_path / "items[1].parquet")
    dataset = import_dataset(
        workspace,
        "own",
        ImportConfig(**config),
        progress,
        interactions=[tmp_path / "log[1].csv"],
        items=[tmp_path / "items[1].parquet"],
    )
    assert load(dataset)[0] == EXPECTED
    assert load(dataset)[1]["z"] == text
