"""External lists in every form: their order, what is unknown, repeated and tied, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from pipelines.errors import UserError
from pipelines.evaluate.external import Lists
from pipelines.external.config import ExternalConfig
from pipelines.external.read import read_lists
from pipelines.import_.build import import_dataset
from pipelines.import_.config import ImportConfig
from pipelines.workspace import Workspace
from tests.conftest import ListProgress

ROWS = [  # user, item, score, rank; worst first
    ("user-1", "item-7", 0.1, 3),
    ("user-0", "item-5", 0.25, 2),
    ("user-1", "item-8", 0.5, 2),
    ("user-1", "item-9", 2.0, 1),
    ("user-0", "item-4", 1.5, 1),
]
LONG = pl.DataFrame(ROWS, ["user_id", "item_id", "score", "rank"], orient="row")
LISTS = {"user-1": ["item-9", "item-8", "item-7"], "user-0": ["item-4", "item-5"]}
NUMBERS = {0: [4, 5], 1: [9, 8, 7]}


def write(table: pl.DataFrame, path: Path) -> Path:
    """Write a table in the format of the suffix."""
    writers = {".csv": "write_csv", ".jsonl": "write_ndjson", ".parquet": "write_parquet"}
    getattr(table, writers[path.suffix])(path)
    return path


def numbers(lists: Lists) -> dict[int, list[int]]:
    """User → items, by number."""
    found: dict[int, list[int]] = {}
    for user, item in zip(lists.users.tolist(), lists.items.tolist(), strict=True):
        found.setdefault(user, []).append(item)
    return found


def long(items: list[str | None], **columns: list[object]) -> pl.DataFrame:
    """The list of user-2, one row an entry."""
    return pl.DataFrame({"user": ["user-2"] * len(items), "item": items, **columns})


def nested(items: list[str], **columns: list[list[float]]) -> pl.DataFrame:
    """The list of user-2 in one row."""
    table = {"user": ["user-2"], "items": [items], **columns}
    return pl.DataFrame(table, schema_overrides={"items": pl.List(pl.String)})


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("columns", [["score"], ["rank"], ["score", "rank"]], ids=" and ".join)
def test_a_row_for_each_entry(
    toy: Workspace, tmp_path: Path, progress: ListProgress, suffix: str, columns: list[str]
) -> None:
    path = write(LONG.select("user_id", "item_id", *columns), tmp_path / f"lists{suffix}")
    lists = read_lists(path, toy.require_dataset(), progress)
    assert numbers(lists) == NUMBERS
    assert progress.messages == [f"lists{suffix}: 2 lists of up to 3 entries, ordered by {columns[-1]}."]
    assert lists.places.tolist() == [0, 1, 0, 1, 2] and lists.longest == 3 and not lists.repeated.any()


def test_a_row_for_each_list(toy: Workspace, tmp_path: Path, progress: ListProgress) -> None:
    table = pl.DataFrame({"user": [*LISTS], "recommendations": [*LISTS.values()]})
    texts = table.with_columns(pl.Series("recommendations", [json.dumps(row) for row in LISTS.values()]))
    scores = pl.Series("scores", [[-3.0, -2.0, -1.0], [0.5, 2.5]])
    scores = pl.Series("scores", [[-3.0, -2.0, -1.0], [0.5, 2.5]])
    scored = table.with_columns(pl.col("recommendations").list.reverse(), scores)
    tables = {"a.parquet": table, "b.jsonl": table, "c.csv": texts, "d.parquet": scored, "e.jsonl": scored}
    for name, content in tables.items():
        lists = read_lists(write(content, tmp_path / name), toy.require_dataset(), progress)
        assert numbers(lists) == NUMBERS, name
        assert ("by scores" if content is scored else "in the order of the file") in progress.messages[-1]


def test_without_ranks_and_scores_the_file_is_in_order(
    toy: Workspace, tmp_path: Path, progress: ListProgress
) -> None:
    path = write(LONG.select("user_id", "item_id"), tmp_path / "lists.csv")
    assert numbers(read_lists(path, toy.require_dataset(), progress)) == {0: [5, 4], 1: [7, 8, 9]}
    assert progress.messages == ["lists.csv: 2 lists of up to 3 entries, in the order of the file."]


def test_ties_keep_the_order_of_the_file(toy: Workspace, tmp_path: Path, progress: ListProgress) -> None:
    table = long(["item-5", "item-3", "item-4", "item-9"], score=[1, 1, 1, 2])
    other = LONG.select(user="user_id", item="item_id", score=pl.int_range(5))
    path = write(pl.concat((table, other)), tmp_path / "lists.csv")
    assert numbers(read_lists(path, toy.require_dataset(), progress))[2] == [9, 5, 3, 4]
    assert progress.messages[1] == "1 lists have ties: tied entries keep the order of the file."


def test_unknown_and_missing_items_keep_their_places(
    toy: Workspace, tmp_path: Path, progress: ListProgress
) -> None:
    for name in ("lists.csv", "lists.parquet"):
        path = write(long(["item-5", "?", None, "item-6"]), tmp_path / name)
        assert numbers(read_lists(path, toy.require_dataset(), progress)) == {2: [5, -1, -1, 6]}
        assert progress.messages[-2] == (
            "2 of 4 entries are no item of toy, e.g. '?', nothing: they keep their places and count as "
            "invalid."
        )


def test_of_repeated_items_the_first_counts(toy: Workspace, tmp_path: Path, progress: ListProgress) -> None:
    items = ["item-5", "?", "item-5", "?", "item-6", "item-5"]
    others = long(["item-5", "item-6"]).with_columns(user=pl.lit("user-3"))  # no repetition in another list
    lists = read_lists(
        write(pl.concat((long(items), others)), tmp_path / "l.csv"), toy.require_dataset(), progress
    )
    assert lists.repeated.tolist() == [False, False, True, False, False, True, False, False]
    assert progress.messages[-1] == "2 entries repeat an item of their list: the first counts."


def test_a_few_unknown_users_are_left_out(toy: Workspace, tmp_path: Path, progress: ListProgress) -> None:
    users = [f"user-{u}" for u in range(199)]
    table = pl.DataFrame({"user": [*users, "who"], "item": "item-1"})
    lists = read_lists(write(table, tmp_path / "lists.csv"), toy.require_dataset(), progress)
    assert numbers(lists) == dict.fromkeys(range(199), [1])
    assert "1 of 200 users of" in progress.messages[0]
    assert progress.messages[0].endswith("are not in toy, e.g. 'who': their lists are left out.")
    table = pl.DataFrame({"user": [*users[:97], "a", "b", "c"], "item": "item-1"})
    message = r"3 of 100 users of .*l.csv are not in toy, e.g. 'a', 'b', 'c', where users are e.g. 'user-0'"
    with pytest.raises(UserError, match=message):
        read_lists(write(table, tmp_path / "l.csv"), toy.require_dataset(), progress)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (long(["5", "6"]), r"No item of .* is in toy: it has e.g. '5', '6', where items are e.g. 'item-0'"),
        (long([None, None]), "column item holds no item"),
        (long(["item-1"]).drop("item"), "has no column of items; it has user. Call the column of items item"),
        (long(["item-1"]).drop("user"), "has no column of users; it has item"),
        (long(["item-1", "item-2"], score=[1, None]), "column score holds None in row 1, which is no number"),
        (long(["item-1", "item-2"], score=["1", "x"]), "column score holds 'x' in row 1, which is no number"),
        (long(["item-1", "item-2"], score=[1.0, float("nan")]), "column score holds nan in row 1"),
        (long([1.5, 2.5]), "ids must be text or whole numbers"),
        (nested([]), "all lists in column items are empty"),
        (nested(["item-1"], scores=[[1.0, 2.0]]), "row 0 has another number of scores than of items"),
    ],
    ids=range(10),
)
def test_what_cannot_be_used_is_refused_in_one_line(
    toy: Workspace, tmp_path: Path, progress: ListProgress, table: pl.DataFrame, message: str
) -> None:
    path = write(table, tmp_path / "lists.parquet")
    with pytest.raises(UserError, match=message) as raised:
        read_lists(path, toy.require_dataset(), progress)
    assert "\n" not in str(raised.value) and str(path) in str(raised.value)


def test_a_file_that_is_missing(toy: Workspace, tmp_path: Path, progress: ListProgress) -> None:
    with pytest.raises(UserError, match=r"missing.csv does not exist"):
        read_lists(tmp_path / "missing.csv", toy.require_dataset(), progress)


def test_numbers_are_identifiers(workspace: Workspace, tmp_path: Path, progress: ListProgress) -> None:
    """Whole numbers as floats, and texts with leading zeros, are those of the import."""
    log = "user,item,time\n" + "".join(f"{u},{i},{i}\n" for u in (7, 8) for i in (1, 2, 3))
    (tmp_path / "log.csv").write_text(log)
    dataset = import_dataset(workspace, "n", ImportConfig(), progress, interactions=[tmp_path / "log.csv"])
    for table in (
        pl.DataFrame({"user": [7.0, 8.0], "item": [2.0, 3.0]}),
        pl.DataFrame({"user": [7, 8], "items": [[2], [3]]}),
    ):
        path = write(table, tmp_path / "lists.parquet")
        assert numbers(read_lists(path, dataset, progress)) == {0: [1], 1: [2]}
    (tmp_path / "l.csv").write_text("user,item\n7,2\n8,03\n")
    assert numbers(read_lists(tmp_path / "l.csv", dataset, progress)) == {0: [1], 1: [-1]}


def test_the_name_of_the_result_is_that_of_the_file_unless_given() -> None:
    assert ExternalConfig("folder/sasrec.v2.csv.gz").result == "sasrec"
    assert ExternalConfig("a b.csv", label="ours").result == "ours"
    with pytest.raises(UserError, match="Give one with --name"):
        _ = ExternalConfig("a b.csv").result
    with pytest.raises(UserError, match="'a/b' cannot be a name"):
        ExternalConfig("x.csv", label="a/b")
    for option in ({"label": "x"}, {"dataset": "toy"}):
        with pytest.raises(UserError, match="needs --recommendations"):
            ExternalConfig(**option)
