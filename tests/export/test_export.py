"""Exports read by Python's own readers, and imported and exported again."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from maskgr_cli.app import app
from pipelines import artifacts
from pipelines.data.sequences import load_sequences
from pipelines.errors import UserError
from pipelines.export.build import export_dataset
from pipelines.export.config import FORMATS, ExportConfig
from pipelines.import_.build import import_dataset
from pipelines.import_.config import ImportConfig
from pipelines.workspace import Dataset, Workspace
from tests.conftest import ListProgress
from tests.train.conftest import write_sids

ODD = (
    "a b",
    "tab\there",
    'quo"te',
    '"quoted"',
    "new\nline",
    "com,ma",
    "名前 ü",
    "007",
    "r\re",
    "'s'",
    "1e3",
    "{}",
)
USERS = (*ODD, "zoë")
ITEMS = (*(f"{odd}!" for odd in ODD), "0012", "plain")
TITLES = [f"Title, {odd}  of\t{number}" for number, odd in enumerate(ITEMS)]


def log() -> pl.DataFrame:
    """Each user takes seven items, some of them twice, many at equal times."""
    rows = [
        (
            user,
            ITEMS[(n + 2 * place) % len(ITEMS)] if place != 3 else ITEMS[n % len(ITEMS)],
            10.5 + place // 3,
        )
        for place in range(7)
        for n, user in enumerate(USERS)
    ]
    return pl.DataFrame(rows, ["user_id", "item_id", "timestamp"], orient="row").with_columns(
        rating=pl.int_range(pl.len()) % 5
    )


def catalogue() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "item_id": ITEMS,
            "title": [*TITLES[:-2], "", None],
            "tags": [["a b", 'c"d'], [], None, ["e"]] * 3 + [["f"]] * 2,
            "year": ["1995"] * len(ITEMS),
        }
    )


@pytest.fixture
def odd(workspace: Workspace, tmp_path: Path, progress: ListProgress) -> Dataset:
    return imported(workspace, tmp_path, progress, log(), catalogue())


def imported(
    workspace: Workspace,
    folder: Path,
    progress: ListProgress,
    interactions: pl.DataFrame,
    items: pl.DataFrame,
) -> Dataset:
    interactions.write_parquet(folder / "log.parquet")
    items.write_parquet(folder / "items.parquet")
    files = {"interactions": folder / "log.parquet", "items": folder / "items.parquet"}
    return import_dataset(workspace, "odd", ImportConfig(), progress, **files)


def as_arrow(table: pl.DataFrame) -> pa.Table:
    """Return a table with strings of the type that the schemas have."""
    arrow = table.to_arrow(compat_level=pl.CompatLevel.oldest())
    return arrow.cast(
        pa.schema(
            [(f.name, pa.string() if pa.types.is_large_string(f.type) else f.type) for f in arrow.schema]
        )
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def sequences(dataset: Dataset) -> dict[str, list[str]]:
    """User → items in order, with identifiers."""
    users = artifacts.read(dataset.sequences, "sequences")
    items = artifacts.read(dataset.items, "items")["item_id"].to_pylist()
    rows = zip(users["user_id"].to_pylist(), users["items"].to_pylist(), strict=True)
    return {user: [items[item] for item in row] for user, row in rows}


def rows_of(path: Path, **options: Any) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, **options))


def grouped(rows: list[dict[str, str]], user: str = "user_id", item: str = "item_id") -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row[user], []).append(row[item])
    return found


def test_csv_holds_all_and_comes_back_as_it_was(
    odd: Dataset, workspace: Workspace, tmp_path: Path, progress: ListProgress
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert [p.name for p in export_dataset(odd, ExportConfig(), first)] == ["interactions.csv", "items.csv"]
    rows = rows_of(first / "interactions.csv")
    assert grouped(rows) == sequences(odd)
    assert [row["position"] for row in rows[:8]] == [*map(str, range(7)), "0"]
    taken = {(r["user_id"], r["item_id"], float(r["timestamp"]), int(r["rating"])) for r in rows}
    assert taken == {*log().iter_rows()}
    items = rows_of(first / "items.csv")
    assert [row["item_id"] for row in items] == [*ITEMS]
    assert [row["title"] for row in items[:-2]] == TITLES[:-2]
    assert json.loads(items[0]["tags"]) == ["a b", 'c"d'] and items[1]["tags"] == "[]"
    again = Workspace(tmp_path / "again")
    files = {"interactions": first / "interactions.csv", "items": first / "items.csv"}
    back = import_dataset(again, "odd", ImportConfig(text_columns="title,tags,year"), progress, **files)
    assert sequences(back) == sequences(odd)
    assert load_sequences(back.sequences).items.tolist() == load_sequences(odd.sequences).items.tolist()
    export_dataset(back, ExportConfig(), second)
    assert contents(second) == contents(first)


def test_recbole_has_typed_fields_between_tabs(odd: Dataset, tmp_path: Path) -> None:
    paths = export_dataset(odd, ExportConfig("recbole"), tmp_path / "out")
    assert [path.name for path in paths] == ["odd.inter", "odd.item"]
    rows = rows_of(paths[0], delimiter="\t")
    assert [*rows[0]] == [
        "user_id:token", "item_id:token", "rating:float", "timestamp:float", "position:float"
    ]  # fmt: skip
    assert grouped(rows, "user_id:token", "item_id:token") == sequences(odd)
    assert [row["timestamp:float"] for row in rows[:7]] == ["10.5"] * 3 + ["11.5"] * 3 + ["12.5"]
    assert rows[3]["position:float"] == "3"
    items = rows_of(paths[1], delimiter="\t")
    assert [*items[0]] == ["item_id:token", "title:token_seq", "tags:token_seq", "year:token_seq"]
    assert [row["item_id:token"] for row in items] == [*ITEMS]
    assert items[1]["title:token_seq"] == "Title, tab here! of 1"
    assert items[0]["tags:token_seq"] == 'a b c"d'


def test_a_dictionary_holds_lists_and_fields(odd: Dataset, tmp_path: Path) -> None:
    paths = export_dataset(odd, ExportConfig("dictionary"), tmp_path / "out")
    assert [path.name for path in paths] == ["odd.inter.json", "odd.item.json"]
    interactions, items = (json.loads(path.read_bytes()) for path in paths)
    assert interactions == sequences(odd) and [*interactions] == [*sequences(odd)]
    assert [*items] == [*ITEMS]
    assert items["plain"] == {"title": "", "tags": ["f"], "year": "1995"}
    assert items["tab\there!"] == {"title": TITLES[1], "tags": [], "year": "1995"}


def test_semantic_ids_are_tokens(toy: Workspace, tmp_path: Path) -> None:
    dataset, name = toy.require_dataset(), write_sids(toy)
    paths = export_dataset(dataset, ExportConfig("dictionary", semantic_ids=name), tmp_path / "out")
    assert [path.name for path in paths] == ["toy.index.json", "toy.inter.json", "toy.item.json"]
    sids = artifacts.read(dataset.sids(name), "sids")["sid"].to_pylist()
    assert json.loads(paths[0].read_bytes()) == {
        f"item-{item}": [f"<a_{sid[0]}>", f"<b_{sid[1]}>", f"<c_{sid[2]}>"] for item, sid in enumerate(sids)
    }
    assert json.loads(paths[2].read_bytes())["item-3"] == {"text": "group 0 number 3"}


def test_sequences_are_lines(toy: Workspace, tmp_path: Path) -> None:
    dataset = toy.require_dataset()
    paths = export_dataset(dataset, ExportConfig("sequences"), tmp_path / "out")
    assert [path.name for path in paths] == ["items.csv", "sequences.txt"]
    lines = paths[1].read_text().splitlines()
    assert {words[0]: words[1:] for words in map(str.split, lines)} == sequences(dataset)
    assert paths[1].read_bytes().endswith(b"\n") and len(lines) == 200


def test_identifiers_with_blanks_are_refused_where_blanks_separate(odd: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="user_id 'a b' of odd has a blank") as raised:
        export_dataset(odd, ExportConfig("sequences"), tmp_path / "out")
    assert "--format csv, recbole or dictionary" in str(raised.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("format", "name", "validation", "suffix"),
    [("csv", "interactions.{}.csv", "validation", ""), ("recbole", "odd.{}.inter", "valid", ":token")],
)
def test_each_split_is_a_file(
    odd: Dataset, tmp_path: Path, format: str, name: str, validation: str, suffix: str
) -> None:
    export_dataset(odd, ExportConfig(format, split=True), tmp_path / "out")
    delimiter = "\t" if format == "recbole" else ","
    for part, kept in {"train": slice(-2), validation: slice(-2, -1), "test": slice(-1, None)}.items():
        rows = rows_of(tmp_path / "out" / name.format(part), delimiter=delimiter)
        expected = {user: items[kept] for user, items in sequences(odd).items()}
        assert grouped(rows, f"user_id{suffix}", f"item_id{suffix}") == expected
    assert len(contents(tmp_path / "out")) == 4


def test_numbers_and_nested_columns(workspace: Workspace, tmp_path: Path, progress: ListProgress) -> None:
    """Columns that the items artifact may hold besides texts."""
    dataset = imported(workspace, tmp_path, progress, log(), catalogue())
    table = pl.read_parquet(dataset.items).with_columns(
        price=pl.when(pl.col("item") != 1).then(pl.col("item") * 0.75),
        stock=pl.col("item") * 10**6,
        sizes=pl.concat_list("item", "item"),
        new=pl.col("item") > 1,
        inner=pl.struct("item"),
    )
    artifacts.write(dataset.items, "items", as_arrow(table), config={})
    export_dataset(dataset, ExportConfig("recbole"), tmp_path / "out")
    rows = rows_of(tmp_path / "out" / "odd.item", delimiter="\t")
    assert {name: rows[4][name] for name in [*rows[4]][4:]} == {
        "price:float": "3", "stock:float": "4000000", "sizes:float_seq": "4 4", "new:float": "1",
        "inner:token_seq": '{"item":4}',
    }  # fmt: skip
    assert [row["price:float"] for row in rows[:4]] == ["0", "", "1.5", "2.25"]


def test_a_format_is_written_whole_or_not_at_all(
    toy: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, folder = toy.require_dataset(), tmp_path / "out"
    export_dataset(dataset, ExportConfig(), folder)
    before = contents(folder)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pipelines.export.formats._write_items", fail)
    with pytest.raises(UserError, match="out cannot be written in .* \\(No space left on device\\)"):
        export_dataset(dataset, ExportConfig(), folder)
    assert contents(folder) == before and [path.name for path in tmp_path.glob(".*")] == []
    with pytest.raises(UserError, match="--output .*items.csv is a file"):
        export_dataset(dataset, ExportConfig(), folder / "items.csv")


def test_artifacts_that_do_not_agree_are_refused(toy: Workspace, tmp_path: Path) -> None:
    dataset = toy.require_dataset()
    table = artifacts.read(dataset.interactions, "interactions")
    artifacts.write(dataset.interactions, "interactions", table.slice(1), config={})
    with pytest.raises(UserError, match="was made from other interactions"):
        export_dataset(dataset, ExportConfig(), tmp_path / "out")


@pytest.mark.parametrize("format", FORMATS)
def test_the_command(toy: Workspace, tmp_path: Path, format: str) -> None:
    arguments = ["data", "export", "toy", "--format", format, "--output", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*arguments, "--workspace", str(toy.root)], catch_exceptions=False)
    assert done.exit_code == 0
    assert {Path(line) for line in done.stdout.split()} == {*(tmp_path / "out").iterdir()}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"format": "xml"}, "--format 'xml' is unknown; choose csv, recbole, sequences, dictionary."),
        ({"format": "sequences", "split": True}, "--split needs --format csv or --format recbole"),
        (
            {"semantic_ids": "x"},
            "--semantic-ids x needs --format dictionary; with --format csv leave",
        ),
    ],
)
def test_options_without_effect_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ExportConfig(**config)
