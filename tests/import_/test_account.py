"""The account of an import, what a dry run writes, several files, and what the artifacts keep."""

from __future__ import annotations

import datetime
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from maskgr_cli.app import app
from pipelines import artifacts
from pipelines.errors import UserError
from pipelines.import_.build import examine, import_dataset
from pipelines.import_.config import ImportConfig
from pipelines.workspace import Dataset, Workspace
from tests.conftest import ListProgress
from tests.import_.samples import ITEMS, LOG, load, read


def files_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def frame(path: Path) -> pl.DataFrame:
    return pl.read_parquet(path)


def test_a_dry_run_shows_the_account_and_writes_nothing(toy: Workspace, tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text(LOG.write_csv(separator=";") + ";x;1\n")
    ITEMS.write_ndjson(tmp_path / "items.jsonl")
    before = files_of(toy.root)
    paths = ["--interactions", str(log), "--items", str(tmp_path / "items.jsonl"), "--max-bad-rows", "0.2"]
    done = CliRunner().invoke(
        app, ["import", "own", *paths, "--dry-run", "--workspace", str(toy.root)], env={"COLUMNS": "300"}
    )
    assert done.exit_code == 0, done.output
    assert files_of(toy.root) == before
    assert done.stdout.splitlines() == [
        "Files",
        f"  {log}: CSV, separator ';', UTF-8, 9 rows",
        f"  {tmp_path / 'items.jsonl'}: JSON Lines, UTF-8, 4 rows",
        "Columns",
        "  users: user_id, text: ann, bob, cy",
        "  items: item_id, text: x, y, z",
        "  times: timestamp, whole numbers: 3, 1, 5",
        "  item rows: item_id, text: z, y, x",
        "  texts: title, tags, text: Zed, Ex, -",
        "Times: numbers, 1 to 6",
        f"Dropped 1 rows that have no user, first {log}, line 10: user_id is None.",
        "Filters",
        "  Rows that can be used of 9: 8 interactions, 3 users, 4 items",
        "  Without repeated rows: 7 interactions, 3 users, 4 items",
        "  Users with at least 3 items, as leave-one-out needs: 6 interactions, 2 users, 4 items",
        "1 of 4 items are not in the items file, e.g. w: they have no text.",
        "1 items of the items file were never taken, e.g. unused: left out; --untaken keeps them.",
        "2 of 4 items have no text.",
        "Equal times: 0 pairs of neighbors, and the last two items of 0.0% of the users; they keep the order "
        "of the file.",
    ]


def test_an_import_says_the_short_account_and_keeps_all_of_it(
    workspace: Workspace, progress: ListProgress, tmp_path: Path
) -> None:
    (tmp_path / "log.csv").write_text(LOG.write_csv(separator=";"))
    config = ImportConfig()
    paths = {"interactions": [tmp_path / "log.csv"]}
    expected = examine(workspace, "own", config, progress, **paths)
    dataset = import_dataset(workspace, "own", config, progress, **paths)
    assert [line for line in expected.short() if line not in progress.messages] == []
    assert "Columns of users: user_id; items: item_id; times: timestamp." in progress.messages
    provenance = artifacts.provenance(dataset.interactions)
    assert provenance is not None
    assert provenance["account"] == artifacts.json_values(expected.values())
    assert provenance["account"]["steps"][-1]["interactions"] == len(frame(dataset.interactions))
    assert "account" not in (artifacts.provenance(dataset.items) or {})


def test_a_filter_that_drops_something_is_said(tmp_path: Path) -> None:
    from pipelines.prepare.account import Account, Step

    account = Account(steps=[Step("a", 9, 3, 2), Step("b", 9, 3, 2), Step("c", 8, 2, 2)])
    assert account.short() == ["c: 9 → 8 interactions, 3 → 2 users, 2 → 2 items."]


def test_files_and_folders_are_one_log(workspace: Workspace, progress: ListProgress, tmp_path: Path) -> None:
    folder = tmp_path / "daily"
    folder.mkdir()
    LOG.head(3).write_csv(folder / "1.csv")
    LOG[3:5].with_columns(pl.col("timestamp").cast(pl.Float64), extra=pl.lit("e")).write_ndjson(
        folder / "2.jsonl"
    )
    LOG[5:].write_parquet(tmp_path / "rest.parquet")
    paths = [folder, tmp_path / "rest.parquet"]
    dataset = import_dataset(workspace, "own", ImportConfig(), progress, interactions=paths)
    LOG.write_csv(tmp_path / "log.csv")
    whole = import_dataset(workspace, "one", ImportConfig(), progress, interactions=[tmp_path / "log.csv"])
    assert load(dataset) == load(whole)
    assert {*(artifacts.provenance(dataset.interactions) or {})["inputs"]} == {
        "interactions 1",
        "interactions 2",
        "interactions 3",
    }
    import_dataset(workspace, "own", ImportConfig(), progress, interactions=paths)
    assert "own is up to date" in progress.messages[-1]
    LOG.head(1).write_csv(folder / "3.csv")
    import_dataset(workspace, "own", ImportConfig(), progress, interactions=paths)
    assert any(message.startswith("Making own again") for message in progress.messages)


def test_a_file_that_lacks_a_column_is_named(tmp_path: Path) -> None:
    LOG.write_csv(tmp_path / "1.csv")
    LOG.drop("timestamp").write_csv(tmp_path / "2.csv")
    (tmp_path / "3.csv").write_text("user_id,item_id,timestamp\nann,x,soon\n")
    with pytest.raises(UserError, match="2.csv has no column timestamp, which other files of --inter"):
        examine(Workspace(tmp_path), "own", ImportConfig(), ListProgress(), interactions=[tmp_path])
    with pytest.raises(UserError, match=r"first .*3.csv, line 2: timestamp is 'soon'"):
        examine(
            Workspace(tmp_path), "own", ImportConfig(), ListProgress(), interactions=[tmp_path / "[13].csv"]
        )


def test_a_wrong_suffix_is_said(tmp_path: Path) -> None:
    LOG.write_ndjson(tmp_path / "log.csv")
    _, account = read(tmp_path, tmp_path / "log.csv")
    assert account.files[0][1].endswith("; its name ends with .csv, but its content is JSON Lines")


TYPED = pl.DataFrame(
    {
        "item_id": ["x", "y", "z"],
        "title": ["Ex", "Why", "Zed"],
        "price": [1.5, None, 3.0],
        "stock": [True, False, None],
        "added": [datetime.date(2022, 1, 1), None, datetime.date(2022, 1, 3)],
        "tags": [["a"], [], ["b", "c"]],
        "sizes": [[1, 2], None, []],
        "maker": [{"id": 1, "town": "A"}, None, {"id": 3, "town": None}],
        "images": [[{"url": "u"}], [], None],
        "text": ["t", None, "t"],
        "never": [None] * 3,
    },
    schema_overrides={"never": pl.Null},
)


@pytest.mark.parametrize("form", ["parquet", "jsonl", "csv"])
def test_all_columns_of_items_are_kept_with_their_types(
    workspace: Workspace, progress: ListProgress, tmp_path: Path, form: str
) -> None:
    from pipelines.where.condition import condition

    path, table = tmp_path / f"items.{form}", TYPED
    if form == "csv":
        table = table.select("item_id", "title", "price", "stock", "added", "text", "never").with_columns(
            tags=pl.Series(["['a']", "[]", "['b', 'c']"]), sizes=pl.Series(["[1, 2]", None, "[]"])
        )
        table = table.with_columns(pl.col("stock").cast(pl.String))
    {"parquet": table.write_parquet, "jsonl": table.write_ndjson, "csv": table.write_csv}[form](path)
    LOG.write_csv(tmp_path / "log.csv")
    config = ImportConfig(text_columns="title")
    dataset = import_dataset(
        workspace, "own", config, progress, interactions=[tmp_path / "log.csv"], items=[path]
    )
    items = frame(dataset.items)
    assert items.columns[:4] == ["item", "item_id", "text", "title"]
    assert items["text"].to_list() == ["Ex", "Why", "Zed", ""]
    assert items["text_given"].to_list() == ["t", None, "t", None]
    where = {
        "price < 2": ["x"],
        "stock": ["x"],
        "stock = false": ["y"],
        "added > '2022-01-02'": ["z"],
        "tags = 'c'": ["z"],
        "sizes = 2": ["x"],
        "never is null": ["x", "y", "z", "w"],
    }
    nested = {"maker.id = 3": ["z"], "maker.town is not null": ["x"], "images like '%\"u\"%'": ["x"]}
    for text, expected in (where | (nested if form != "csv" else {})).items():
        assert items.filter(condition(text, items.schema))["item_id"].to_list() == expected, text


def test_an_update_keeps_numbers_and_a_new_item_follows(
    workspace: Workspace, progress: ListProgress, tmp_path: Path
) -> None:
    log, config = tmp_path / "log.csv", ImportConfig(update=True)

    def imported(rows: pl.DataFrame) -> Dataset:
        rows.write_csv(log)
        return import_dataset(workspace, "own", config, progress, interactions=[log])

    first = frame(imported(LOG).items)["item_id"].to_list()  # nothing to update: as without it
    new = pl.DataFrame([("bob", "new", 0), ("ann", "z", 9)], schema=LOG.schema, orient="row")
    dataset = imported(pl.concat((new, LOG.filter(pl.col("item_id") != "w"))))
    assert frame(dataset.items)["item_id"].to_list() == [*first, "new"]
    assert load(dataset)[0] == {"bob": ["new", "x", "y"], "ann": ["y", "z", "x", "z"]}
    assert "4 items keep their numbers; 1 are new." in progress.messages


def test_items_that_nobody_took_change_nothing_else(
    workspace: Workspace, progress: ListProgress, tmp_path: Path
) -> None:
    LOG.write_csv(tmp_path / "log.csv")
    ITEMS.write_ndjson(tmp_path / "items.jsonl")
    paths = {"interactions": [tmp_path / "log.csv"], "items": [tmp_path / "items.jsonl"]}
    left = import_dataset(workspace, "left", ImportConfig(), progress, **paths)
    kept = import_dataset(workspace, "kept", ImportConfig(untaken=True), progress, **paths)
    assert frame(left.sequences).equals(frame(kept.sequences))
    assert frame(kept.items)["item_id"].to_list() == [*frame(left.items)["item_id"], "unused"]
    with pytest.raises(UserError, match="--untaken keeps items of an items file"):
        import_dataset(
            workspace, "own", ImportConfig(untaken=True), progress, interactions=paths["interactions"]
        )


def test_equal_times_are_counted_and_warned_of(
    tmp_path: Path, workspace: Workspace, progress: ListProgress
) -> None:
    log = tmp_path / "log.csv"
    rows = [(u, i, t) for u in "abc" for i, t in (("x", 1), ("y", 2), ("z", 2 + (u == "c")))]
    pl.DataFrame(rows, schema=["user", "item", "time"], orient="row").write_csv(log)
    account = examine(workspace, "own", ImportConfig(), progress, interactions=[log])
    assert (account.tied_pairs, round(account.tied_last, 2)) == (2, 0.67)
    assert account.short()[-2:] == [
        "Equal times: 2 pairs of neighbors, and the last two items of 66.7% of the users; they keep the "
        "order of the file.",
        "Warning: the times do not order the last items of most users, so that test items are arbitrary: "
        "--time-column none takes the order of the file, --ties shuffle draws an order.",
    ]
    config = ImportConfig(ties="shuffle", seed=3)
    assert (
        "their order is drawn with seed 3"
        in examine(workspace, "own", config, progress, interactions=[log]).short()[-2]
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoding": "klingon"}, "--encoding 'klingon' is unknown"),
        ({"encoding": "rot13"}, "--encoding 'rot13' is unknown"),
        ({"columns": "user,,item"}, "--columns 'user,,item' must be distinct names"),
        ({"columns": "user,user"}, "must be distinct names"),
        ({"seed": 1}, "--seed 1 needs --ties shuffle; with --ties file leave it out"),
        ({"ids": "equal"}, "--ids 'equal' is unknown; choose exact, folded"),
        ({"max_bad_rows": 1.5}, "--max-bad-rows is 1.5; it must be between 0 and 1"),
    ],
)
def test_options_that_are_refused(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        ImportConfig(**options)


def test_a_file_without_a_header(tmp_path: Path) -> None:
    rows = "B1,u1,5.0,1656390505\nB2,u2,4.0,1656390506\n"
    with pytest.raises(UserError) as refused:
        read(tmp_path, rows)
    assert (
        "log has no header. Its columns are text ('B1'), text ('u1'), numbers (5.0), whole numbers "
        "(1656390505). Name them in their order, e.g. --columns user,item,rating,time"
    ) in str(refused.value)
    tables, _ = read(tmp_path, rows, config=ImportConfig(columns="item,user,rating,time"))
    assert tables.interactions.row(0) == ("u1", "B1", 1656390505, 5.0)
