"""Exports read by Python's own readers, and imported and exported again."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from maskgr_cli.app import app
from pipelines import artifacts
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
FILES = {  # format → files of interactions and of items
    "csv": ("interactions.csv", "items.csv"),
    "recbole": ("odd.inter", "odd.item"),
    "sequences": ("sequences.txt", "items.csv"),
    "dictionary": ("odd.inter.json", "odd.item.json"),
}
USERS = (*ODD, "zoë")
ITEMS = (*(f"{odd}!" for odd in ODD), "0012", "plain")
OTHERS = {  # columns of other types
    "price": [1.0, None, 2.5, 1e-7, 12345.678] + [3.0] * (len(ITEMS) - 5),
    "stock": [0, -5, None, 10**12] + [7] * (len(ITEMS) - 4),
    "new": [True, False, None] + [True] * (len(ITEMS) - 3),
    "sizes": [[1, 2], [3], None] + [[4, 5, 6]] * (len(ITEMS) - 3),
    "seen": ["2024-01-31", None] + ["2024-02-01 10:30:00"] * (len(ITEMS) - 2),
    "about": ["A, b; c", None] + ["d"] * (len(ITEMS) - 2),
}
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
            **OTHERS,
        }
    )


def strip(table: pl.DataFrame) -> pl.DataFrame:
    """Return a table whose identifiers have no blanks, quotes and separators."""
    return table.with_columns(pl.col("^(user|item)_id$").str.replace_all(r"""[\s"',]""", "_"))


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
    files = {"interactions": [folder / "log.parquet"], "items": [folder / "items.parquet"]}
    return import_dataset(workspace, "odd", ImportConfig(), progress, **files)


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


@pytest.mark.parametrize("format", FORMATS)
def test_a_format_that_is_imported_and_exported_again_has_the_same_bytes(
    workspace: Workspace, tmp_path: Path, progress: ListProgress, format: str
) -> None:
    """Identifiers and users' sequences stay too; sequences have plain identifiers only."""
    plain = format == "sequences"
    dataset = imported(
        workspace, tmp_path, progress, *(strip(log()), strip(catalogue())) if plain else (log(), catalogue())
    )
    first, second = tmp_path / "first", tmp_path / "second"
    paths = {path.name: path for path in export_dataset(dataset, ExportConfig(format), first)}
    interactions, items = (paths[name] for name in FILES[format])
    back = import_dataset(
        Workspace(tmp_path / "again"),
        "odd",
        ImportConfig(),
        progress,
        interactions=[interactions],
        items=[items],
    )
    assert sequences(back) == sequences(dataset)
    export_dataset(back, ExportConfig(format), second)
    assert contents(second) == contents(first) and len(paths) == 2


def test_an_order_of_equal_times_that_was_drawn_is_kept(
    workspace: Workspace, tmp_path: Path, progress: ListProgress
) -> None:
    log().write_parquet(tmp_path / "log.parquet")
    drawn, filed = (
        import_dataset(
            workspace, ties, ImportConfig(ties=ties), progress, interactions=[tmp_path / "log.parquet"]
        )
        for ties in ("shuffle", "file")
    )
    assert sequences(drawn) != sequences(filed)
    export_dataset(drawn, ExportConfig(), tmp_path / "out")
    rows = rows_of(tmp_path / "out" / "interactions.csv")
    assert grouped(rows) == sequences(drawn)
    assert {(r["user_id"], r["item_id"], float(r["timestamp"]), int(r["rating"])) for r in rows} == {
        *log().iter_rows()
    }


def test_csv_holds_everything(odd: Dataset, tmp_path: Path) -> None:
    first = tmp_path / "first"
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
    assert [*items[0]] == [
        "item_id:token", "about:token_seq", "new:float", "price:float", "seen:token_seq", "sizes:float_seq",
        "stock:float", "tags:token_seq", "title:token_seq", "year:token_seq",
    ]  # fmt: skip
    assert [*items[2].values()][1:8] == ["d", "", "2.5", "2024-02-01 10:30:00", "", "", ""]
    assert [row["price:float"] for row in items[:5]] == ["1", "", "2.5", "1e-7", "12345.678"]
    assert items[0]["about:token_seq"] == "A b; c" and items[3]["stock:float"] == "1000000000000"
    assert (items[0]["new:float"], items[1]["new:float"], items[3]["sizes:float_seq"]) == ("1", "0", "4 5 6")
    assert [row["item_id:token"] for row in items] == [*ITEMS]
    assert items[1]["title:token_seq"] == "Title, tab here! of 1"
    assert items[0]["tags:token_seq"] == 'a b c"d'


def test_a_dictionary_holds_lists_and_fields(odd: Dataset, tmp_path: Path) -> None:
    paths = export_dataset(odd, ExportConfig("dictionary"), tmp_path / "out")
    assert [path.name for path in paths] == ["odd.inter.json", "odd.item.json"]
    interactions, items = (json.loads(path.read_bytes()) for path in paths)
    assert interactions == sequences(odd) and [*interactions] == [*sequences(odd)]
    assert [*items] == [*ITEMS]
    assert items["plain"] == {
        "about": "d", "new": True, "price": 3.0, "seen": "2024-02-01 10:30:00", "sizes": [4, 5, 6],
        "stock": 7, "tags": ["f"], "title": "", "year": "1995",
    }  # fmt: skip
    assert {name: items["tab\there!"][name] for name in ("about", "price", "tags", "title")} == {
        "about": "", "price": None, "tags": [], "title": TITLES[1],
    }  # fmt: skip


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
    ("user", "item", "is_written"),
    [
        *[("u", "i", True), ("u-ü", "経典", True), ("0012", "007", True)],
        *[('a"b', "i", False), ("a", "b,c", False), ("a;b", "i", False), ("a", "b|c", False)],
        *[("[x", "i", False), ("{x", "i", False), ("user", "i", False)],
    ],
)
def test_sequences_are_read_back_or_refused(
    workspace: Workspace, tmp_path: Path, progress: ListProgress, user: str, item: str, is_written: bool
) -> None:
    rows = [(f"{user}{n or ''}", f"{item}{(n + p) % 9}", p) for n in range(4) for p in range(4 + n)]
    table = pl.DataFrame(rows, ["user_id", "item_id", "timestamp"], orient="row")
    table.write_csv(tmp_path / "log.csv")
    config = ImportConfig(min_count=1)
    dataset = import_dataset(workspace, "ids", config, progress, interactions=[tmp_path / "log.csv"])
    if not is_written:
        with pytest.raises(UserError, match="would not be read back.*Use --format csv"):
            export_dataset(dataset, ExportConfig("sequences"), tmp_path / "out")
        assert not (tmp_path / "out").exists()
        return
    export_dataset(dataset, ExportConfig("sequences"), tmp_path / "out")
    log = tmp_path / "out" / "sequences.txt"
    again = Workspace(tmp_path / "again")
    assert sequences(import_dataset(again, "ids", config, progress, interactions=[log])) == sequences(dataset)


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
