"""Catalogue: order of the items, those that nobody took, and numbers that stay."""

from __future__ import annotations

import polars as pl
import pytest

from pipelines.prepare.catalogue import catalogue
from pipelines.prepare.tables import Tables

ITEMS = pl.DataFrame(
    {"item_id": ["free", "b", "rare", "a"], "title": ["F", "B", None, "A"], "price": [1, 2, 3, 4]}
)
LOG = pl.DataFrame({"user_id": ["u"] * 5, "item_id": ["x", "a", "b", "y", "rare"]})
KEPT = LOG.filter(pl.col("item_id") != "rare")  # the filters drop one item


def test_order_of_the_items() -> None:
    items, notes = catalogue(KEPT, Tables(LOG, ITEMS, ["title"]), False, None)
    assert items.columns == ["item", "item_id", "text", "title", "price"]
    assert items.rows() == [
        (0, "b", "B", "B", 2),
        (1, "a", "A", "A", 4),
        (2, "x", "", None, None),
        (3, "y", "", None, None),
    ]
    assert notes == [
        "2 of 4 items are not in the items file, e.g. x: they have no text.",
        "1 items of the items file were never taken, e.g. free: left out; --untaken keeps them.",
        "2 of 4 items have no text.",
    ]


def test_items_that_nobody_took_come_last() -> None:
    """An item that the filters drop was taken, and stays out."""
    left, _ = catalogue(KEPT, Tables(LOG, ITEMS, ["title"]), False, None)
    kept, notes = catalogue(KEPT, Tables(LOG, ITEMS, ["title"]), True, None)
    assert kept.head(4).equals(left)
    assert kept.rows()[4:] == [(4, "free", "F", "F", 1)]
    assert "1 items of the items file were never taken, e.g. free: part of the catalogue." in notes


def test_an_update_keeps_the_numbers() -> None:
    before, _ = catalogue(KEPT, Tables(LOG, ITEMS, ["title"]), False, None)
    log = pl.DataFrame({"user_id": ["u"] * 4, "item_id": ["new", "y", "b", "a"]})  # x is gone
    rows = pl.DataFrame({"item_id": ["new", "a", "b"], "title": ["N", "A2", "B"], "price": ["9", "8", "7"]})
    after, notes = catalogue(log, Tables(log, rows, ["title"]), False, before)
    assert after.rows() == [
        (0, "b", "B", "B", "7"),
        (1, "a", "A2", "A2", "8"),
        (2, "x", "", None, None),
        (3, "y", "", None, None),
        (4, "new", "N", "N", "9"),
    ]
    assert notes[0] == "4 items keep their numbers; 1 are new."


def test_an_update_keeps_texts_that_the_files_no_longer_have() -> None:
    before, _ = catalogue(KEPT, Tables(LOG, ITEMS, ["title"]), False, None)
    empty = pl.DataFrame(schema={"item_id": pl.String()})
    after, _ = catalogue(LOG, Tables(LOG, empty, []), False, before)
    assert after.head(4).equals(before)
    assert after.rows()[4:] == [(4, "rare", "", None, None)]


@pytest.mark.parametrize(
    ("column", "text"),
    [
        (pl.Series([" a ", None]), ["a", ""]),
        (pl.Series([["a", "", "b"], []]), ["a, b", ""]),
        (pl.Series([[["a", "b"], ["c"]], [[]]]), ["a, b, c", ""]),
        (pl.Series([1.5, None]), ["1.5", ""]),
        (pl.Series([True, False]), ["true", "false"]),
    ],
)
def test_texts_of_any_type(column: pl.Series, text: list[str]) -> None:
    log = pl.DataFrame({"user_id": ["u"] * 2, "item_id": ["a", "b"]})
    items, _ = catalogue(log, Tables(log, log.select("item_id").with_columns(x=column), ["x"]), False, None)
    assert items["text"].to_list() == text
