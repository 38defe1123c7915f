"""Ids and the columns that hold them: which column is taken, forms of ids, agreement with the items file."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from pipelines.errors import UserError
from pipelines.import_.config import ImportConfig
from tests.import_.samples import read

LOG = "user,item,time\n"


def log(*items: str) -> str:
    return LOG + "".join(f"u,{item},{time}\n" for time, item in enumerate(items))


def test_the_column_whose_ids_agree_is_taken(tmp_path: Path) -> None:
    interactions = "user_id,asin,parent_asin,time\n" + "".join(f"u,V{n},P{n},{n}\n" for n in range(4))
    items = "title,parent_asin,id\n" + "".join(f"T{n},P{n},{n}\n" for n in range(4))
    tables, account = read(tmp_path, interactions, items)
    assert tables.interactions["item_id"].to_list() == ["P0", "P1", "P2", "P3"]
    assert tables.items.columns == ["item_id", "title", "id"]
    said = next(column.note for column in account.columns if column.role == "items")
    assert said.startswith("100% of its ids are in parent_asin of the items file; asin 0% in parent_asin")
    _, account = read(tmp_path, interactions)
    said = next(column.note for column in account.columns if column.role == "items")
    assert said == "not parent_asin; --item-column names another"
    with pytest.raises(UserError, match="No item of .* is in .*: 'V0', 'V1', 'V2' against 'P0', 'P1', 'P2'"):
        read(tmp_path, interactions, items, ImportConfig(item_column="asin"))


@pytest.mark.parametrize(
    ("taken", "listed", "advice"),
    [
        ("a1 a2 a3", "A1 A2 A3", "3 of 3 would be found without case: --ids folded"),
        ("007 008 009", "7 8 9", "3 of 3 would be found without leading zeros: --ids folded"),
        (
            "SKU-07 SKU-08",
            "7 8",
            "2 of 2 would be found without the letters before the number: ",
        ),
        ("00151 00214", "1 2", "Most ids of one side begin with zeros: --ids folded"),
        ("x y z", "a b c", "Name the columns of ids with --item-column, or leave --items out"),
    ],
)
def test_no_item_agrees(tmp_path: Path, taken: str, listed: str, advice: str) -> None:
    with pytest.raises(UserError) as refused:
        read(tmp_path, log(*taken.split()), "item_id,title\n" + "".join(f"{i},T\n" for i in listed.split()))
    assert advice in str(refused.value)
    for side in (taken, listed):
        assert ", ".join(map(repr, side.split()[:3])) in str(refused.value)


def test_few_items_agree(tmp_path: Path) -> None:
    items = 'item_id,title\nI1,a\ni2,b\n"I3 ",c\nI4,d\nI5,e\n'
    _, account = read(tmp_path, log("i1", "i2", "i3", "i4", "i5"), items)
    warning = next(note for note in account.notes if note.startswith("Warning: only 1 of 5 items"))
    assert "4 of 4 would be found without case, blanks and leading zeros: --ids folded" in warning
    _, account = read(tmp_path, log("i2", "i2", "x"), items)
    assert not any("Warning" in note for note in account.notes)  # half of them do


def test_folded_ids(tmp_path: Path) -> None:
    items = 'item_id,title\nI1,a\n"I3 ",c\n'
    config = ImportConfig(ids="folded")
    tables, account = read(tmp_path, log("i1", "I1", " i3", "0X", "x"), items, config)
    assert tables.interactions["item_id"].to_list() == ["I1", "I1", "I3 ", "0X", "0X"]
    assert not any("Warning" in note for note in account.notes)
    tables, _ = read(tmp_path, log("b", "B"), None, config)
    assert tables.interactions["item_id"].to_list() == ["b", "b"]
    with pytest.raises(UserError, match="--ids folded makes 'A' and 'a' one item"):
        read(tmp_path, log("a"), "item_id,title\nA,x\na,y\n", config)


def test_decimal_numbers_are_whole_ids(tmp_path: Path) -> None:
    tables, account = read(tmp_path, log("151.0", "7.0"))
    assert tables.interactions["item_id"].to_list() == ["151", "7"]
    assert "decimal numbers as whole ones" in account.columns[1].note
    assert read(tmp_path, log("151.0", "007"))[0].interactions["item_id"].to_list() == ["151.0", "007"]
    frame = pl.DataFrame({"user": [1.0, 2.0], "item": [151.0, 3.0], "time": [1, 2]})
    frame.write_parquet(tmp_path / "log.parquet")
    tables, _ = read(tmp_path, tmp_path / "log.parquet")
    assert tables.interactions.select("user_id", "item_id").rows() == [("1", "151"), ("2", "3")]


def test_missing_ids_as_programs_write_them(tmp_path: Path) -> None:
    tables, account = read(
        tmp_path, log("a", "nan", "None", "null", ""), config=ImportConfig(max_bad_rows=0.8)
    )
    assert tables.interactions["item_id"].to_list() == ["a"]
    assert [(d.reason, d.rows) for d in account.dropped] == [("have no item", 4)]


def test_nested_fields_are_found_and_named(tmp_path: Path) -> None:
    rows = '{"buyer": {"key": "b", "id": 1}, "product": {"sku": "s", "price": 2}, "time": 1}\n' * 2
    with pytest.raises(UserError, match="no column of users .*; it has buyer.key, buyer.id, product.sku"):
        read(tmp_path, rows)
    tables, _ = read(tmp_path, rows, config=ImportConfig(user_column="buyer.key"))
    assert tables.interactions.select("user_id", "item_id").row(0) == ("b", "s")
    with pytest.raises(UserError, match="no column 'buyer'; .* Did you mean buyer.key"):
        read(tmp_path, rows, config=ImportConfig(user_column="buyer"))


def test_lists_of_items(tmp_path: Path) -> None:
    rows = 'user_id,sequence_item_ids,sequence_timestamps\nu,"[3, 5, 7]","[30, 20, 10]"\nv,[],[]\nw,[1],[5]\n'
    tables, account = read(tmp_path, rows)
    assert tables.interactions.rows() == [("u", "3", 30), ("u", "5", 20), ("u", "7", 10), ("w", "1", 5)]
    tables, account = read(tmp_path, "user_id,item_ids\nu,\"['a', 'b']\"\nv,['c']\n")
    assert tables.interactions.rows() == [("u", "a", 0), ("u", "b", 1), ("v", "c", 2)]
    assert account.times == "none; the order is that of the lists"
    with pytest.raises(UserError, match="1 have lists of different lengths .*line 2: 2 and 1 entries"):
        read(tmp_path, 'user_id,item_ids,times\nu,"[1, 2]",[3]\nv,[1],[2]\n')
    with pytest.raises(UserError, match="holds lists of items and column time one time a row"):
        read(tmp_path, 'user_id,item_ids,time\nu,"[1, 2]",3\n')
