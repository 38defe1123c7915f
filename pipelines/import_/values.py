"""Values of columns as the account shows them."""

from __future__ import annotations

import polars as pl

from pipelines.readers.typed import leaf_type

SHOWN = 3  # values of a column
LONGEST = 40  # characters of a value
CALENDAR = (-62_135_596_800.0, 253_402_300_799.0)  # seconds since 1970 of the years 1 to 9999
UNITS_PER_SECOND = {"ms": 1e3, "us": 1e6, "ns": 1e9, "day": 1 / 86_400}
SAMPLE = 1_000  # rows in which distinct values are sought


WORDS = (  # types, and what their values are called
    ((pl.String, pl.Categorical, pl.Enum), "text"),
    ((pl.Boolean,), "true or false"),
    ((pl.Date,), "dates"),
    ((pl.Datetime,), "dates and times"),
)


def readable(column: pl.Series) -> pl.Series:
    """Return a column whose values Python can show: instants beyond its calendar are numbers."""
    if not isinstance(column.dtype, (pl.Date, pl.Datetime)):
        return column
    numbers = column.to_physical()
    unit = column.dtype.time_unit if isinstance(column.dtype, pl.Datetime) else "day"
    seconds = numbers.cast(pl.Float64) / UNITS_PER_SECOND[unit]
    return column if bool(seconds.is_between(*CALENDAR).all()) else numbers


class Values:
    """First values of a column that comes in parts, for the account."""

    def __init__(self) -> None:
        self._first: pl.Series | None = None

    @property
    def some(self) -> bool:
        """True if there was a part."""
        return self._first is not None

    def add(self, column: pl.Series) -> None:
        """Take values of a part, as long as they are the first."""
        if self._first is None or len(self._first) < SAMPLE:
            values = column.drop_nulls().head(SAMPLE)
            self._first = values if self._first is None else pl.concat([self._first, values])

    def described(self) -> tuple[str, list[str]]:
        """Return the kind of the values, in words, and the first distinct ones."""
        assert self._first is not None
        return kind_of(self._first), values(self._first)


def values(column: pl.Series) -> list[str]:
    """Return the first distinct values of a column, for the account."""
    distinct = readable(column).drop_nulls().head(SAMPLE).unique(maintain_order=True)
    texts = [text for text in map(str, distinct.to_list()) if text.strip()][:SHOWN]
    return [text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…" for text in texts]


def kind_of(column: pl.Series) -> str:
    """Return what the values of a column are, in words."""
    kind = leaf_type(column.dtype)
    words = next((words for types, words in WORDS if isinstance(kind, types)), str(kind))
    if kind.is_numeric():
        words = "whole numbers" if kind.is_integer() else "numbers"
    return f"lists of {words}" if column.dtype.is_nested() and kind != column.dtype else words
