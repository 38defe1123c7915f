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
COUNT = "\0count"  # column of the numbers of rows; files with a NUL in a name are refused
MOST_RATINGS = 100_000  # distinct ratings that are counted, the most frequent ones
MOST_EVENTS = 50  # distinct values of a column that may say whether an item was taken


class Doubts:
    """Columns that suggest that some rows are no interactions, found in tables that come one by one."""

    def __init__(self, spoken: set[str], rating: str | None) -> None:
        """
        Args:
            spoken: columns that have a role or that an option speaks of.
            rating: column of ratings; None if there is none.
        """
        self._spoken, self._rating = spoken, rating
        self._is_low = False  # True if a rating is at most 0
        self._counts: dict[str, pl.DataFrame | None] = {}  # of values; None if the column is not doubtful

    def add(self, table: pl.DataFrame) -> None:
        """Count the values of a part of the interactions."""
        for name in table.columns:
            if name in self._spoken or name == ROW:
                continue
            column = table[name].drop_nulls()
            counts = self._counts.setdefault(name, column.clear().value_counts(name=COUNT))
            if counts is None or not len(column):
                continue
            if not self._may_be_doubtful(column):
                self._counts[name] = None
                continue
            both = pl.concat((counts, column.value_counts(name=COUNT)))
            counts = both.group_by(name).agg(pl.col(COUNT).sum())
            if name == self._rating:
                self._is_low |= bool((column <= 0).any())
                self._counts[name] = counts.top_k(MOST_RATINGS, by=COUNT)
            else:
                most = MOST_EVENTS if _is_named(name) else 2
                self._counts[name] = counts if len(counts) <= most else None

    def sentences(self) -> list[str]:
        """Return a sentence for each doubtful column."""
        return [
            _sentence(name, counts, name == self._rating)
            for name, counts in self._counts.items()
            if counts is not None and (self._is_low if name == self._rating else _is_doubtful(counts[name]))
        ]

    def _may_be_doubtful(self, column: pl.Series) -> bool:
        if column.dtype.is_nested():
            return False
        if column.name == self._rating:
            return column.dtype.is_numeric()
        return _is_named(column.name) or column.dtype == pl.Boolean or column.dtype.is_numeric()


def _is_named(name: str) -> bool:
    return plain(name.rsplit(".", 1)[-1]) in TAKEN


def _is_doubtful(values: pl.Series) -> bool:
    """Return True if some of the distinct values of a column suggest that the item was not taken."""
    return _binary(values) or (_is_named(values.name) and len(values) > 1)


def _binary(values: pl.Series) -> bool:
    """Return True for 0 and 1, or true and false, if there are both."""
    if values.dtype == pl.Boolean:
        return len(values) == 2
    return values.dtype.is_numeric() and sorted(values.to_list()) == [0, 1]


def _sentence(name: str, counts: pl.DataFrame, is_rating: bool) -> str:
    counts = counts.sort([COUNT, name], descending=[True, False])
    shown = [f"{value} ({count:,} rows)" for value, count in counts.head(MOST_VALUES).rows()]
    more = ", …" if len(counts) > MOST_VALUES else ""
    return (
        f"Column {name} holds {', '.join(shown)}{more}: all of them count as interactions. "
        + ("--min-rating 1" if is_rating else f'--where "{_condition(name, counts)}"')
        + " selects rows."
    )


def _condition(name: str, counts: pl.DataFrame) -> str:
    quoted = name if name.replace("_", "").replace(".", "").isalnum() else f'\\"{name}\\"'
    if counts.schema[name] == pl.Boolean:
        return f"{quoted} = true"
    return f"{quoted} = 1" if counts.schema[name].is_numeric() else f"{quoted} = '{counts[0, 0]}'"
