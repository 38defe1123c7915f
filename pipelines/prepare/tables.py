"""Tables of interactions and items, as read from the files of a data set."""

from __future__ import annotations

from typing import NamedTuple

import polars as pl


class Tables(NamedTuple):
    """Content of the files of a data set.

    Attributes:
        interactions: user_id and item_id (text, or categories of text, which take less memory), timestamp or
            position (numbers), optionally rating; rows in file order.
        items: item_id (distinct texts) and any other columns of types that artifacts can hold; it may have no
            rows.
        text_columns: columns of `items` that make the text, in the order in which they are joined; lists are
            joined by commas.
    """

    interactions: pl.DataFrame
    items: pl.DataFrame
    text_columns: list[str]


def as_categories(column: pl.Series) -> pl.Series:
    """Return a column of text as categories of its own, which take 4 bytes a row."""
    is_coded = isinstance(column.dtype, pl.Categorical)  # types of different categories are not equal
    return column if is_coded else column.cast(pl.Categorical(pl.Categories.random()))
