"""Columns that suggest that a row is no interaction, of which no option speaks."""

from __future__ import annotations

import polars as pl

from pipelines.import_.combined import ROW
from pipelines.readers.names import plain

# Names of columns that may say whether an item was taken, as `plain` returns them.
TAKEN = {
    *("label", "labels", "target", "click", "clicked", "isclick", "isclicked", "event", "eventtype"),
    *("action", "behavior", "behaviortype", "behaviour", "recommended", "isrecommended", "purchased"),
    *("bought", "liked", "like", "islike", "feedback", "interaction", "conversion", "converted"),
}
MOST_VALUES = 8  # distinct values that a message shows
MOST_EVENTS = 50  # distinct values of a column that may say whether an item was taken


def doubts(table: pl.DataFrame, spoken: set[str], rating: str | None) -> list[str]:
    """Return a sentence for each column that suggests that some rows are no interactions.

    Args:
        table: the interactions.
        spoken: columns that have a role or that an option speaks of.
        rating: column of ratings; None if there is none.
    """
    found = []
    for name in table.columns:
        if name in spoken or name == ROW:
            continue
        column = table[name].drop_nulls()
        if len(column) and not column.dtype.is_nested() and _is_doubtful(column, name == rating):
            found.append(_sentence(name, column, name == rating))
    return found


def _is_doubtful(column: pl.Series, is_rating: bool) -> bool:
    """Return True if some values of a column suggest that the item was not taken."""
    if is_rating:
        return column.dtype.is_numeric() and bool((column <= 0).any())
    is_named = plain(column.name.rsplit(".", 1)[-1]) in TAKEN
    return _binary(column) or (is_named and 1 < column.n_unique() <= MOST_EVENTS)


def _binary(column: pl.Series) -> bool:
    """Return True for a column of 0 and 1, or of true and false, that has both."""
    if column.dtype == pl.Boolean:
        return column.n_unique() == 2
    return column.dtype.is_numeric() and sorted(column.unique().head(3).to_list()) == [0, 1]


def _sentence(name: str, column: pl.Series, is_rating: bool) -> str:
    counts = column.value_counts(sort=True).sort(["count", name], descending=[True, False])
    shown = [f"{value} ({count:,} rows)" for value, count in counts.head(MOST_VALUES).rows()]
    more = ", …" if len(counts) > MOST_VALUES else ""
    return (
        f"Column {name} holds {', '.join(shown)}{more}: all of them count as interactions. "
        + ("--min-rating 1" if is_rating else f'--where "{_condition(name, column, counts)}"')
        + " selects rows."
    )


def _condition(name: str, column: pl.Series, counts: pl.DataFrame) -> str:
    quoted = name if name.replace("_", "").replace(".", "").isalnum() else f'\\"{name}\\"'
    if column.dtype == pl.Boolean:
        return f"{quoted} = true"
    return f"{quoted} = 1" if column.dtype.is_numeric() else f"{quoted} = '{counts[0, 0]}'"
