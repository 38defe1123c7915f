"""Columns of ids as categories."""

from __future__ import annotations

import polars as pl

from pipelines.prepare.tables import as_categories


def test_texts_become_categories_numbered_by_their_first_rows() -> None:
    column = as_categories(pl.Series("item_id", ["b", "a", "b", "c"]))
    assert column.to_physical().to_list() == [0, 1, 0, 2]
    assert column.cast(pl.String).to_list() == ["b", "a", "b", "c"]


def test_categories_are_kept_as_they_are() -> None:
    """A second table of the categories of a large log would take as long as reading it."""
    column = as_categories(pl.Series("item_id", ["b", "a"]))
    assert as_categories(column).dtype.categories.name() == column.dtype.categories.name()
