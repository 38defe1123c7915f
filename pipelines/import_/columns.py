"""Columns of the user's own files: found by name, and converted to identifiers and times."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from pipelines.errors import UserError
from pipelines.readers.names import ITEM_ROWS, ITEMS, POSITIONS, TIMESTAMPS, USERS, matches

ISO = r"^(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2})(?::(\d{2}(?:\.\d+)?))?)? ?(Z|[+-]\d{2}(?::?\d{2})?)?$"
UNITS = {"ms": 1e3, "us": 1e6, "ns": 1e9}  # time unit → units per second
DAY = 86_400.0  # seconds
IDENTIFIERS = (pl.String, pl.Categorical, pl.Enum, pl.Null)  # types of identifiers besides whole numbers


@dataclass(frozen=True)
class Meaning:
    """Meaning of a column.

    Attributes:
        words: what the column holds, for messages.
        names: known names, best first.
        option: option of the command line that names the column.
    """

    words: str
    names: tuple[str, ...]
    option: str


USER = Meaning("users", USERS, "--user-column")
ITEM = Meaning("items", ITEMS, "--item-column")
ITEM_ROW = Meaning("items", ITEM_ROWS, "--item-column, or call it item_id")
TIME = Meaning("times", (*TIMESTAMPS, *POSITIONS), "--time-column")
TEXT = Meaning("texts", (), "--text-columns")


def find(table: pl.DataFrame, path: Path, name: str | None, meaning: Meaning) -> str:
    """Return the name of the column with a meaning.

    Args:
        path: path of the file, for messages.
        name: name that the user gives; None for the first known name.

    Raises:
        UserError: there is no such column.
    """
    if name is not None and name in table.columns:
        return name
    column = None if name else next(iter(matches(table.columns, meaning.names)), None)
    if column is None:
        missing = f"no column {name!r}" if name else f"no column of {meaning.words} that is known by its name"
        raise UserError(
            f"{path} has {missing}; it has {', '.join(table.columns)}. "
            f"Name the one of {meaning.words} with {meaning.option}."
        )
    return column


def identifiers(table: pl.DataFrame, path: Path, name: str) -> pl.Series:
    """Return a column of identifiers as text.

    Raises:
        UserError: the column holds neither text nor whole numbers, or lacks a value.
    """
    column = decoded(table, path, name)
    is_whole = column.dtype.is_integer() or getattr(column.dtype, "scale", None) == 0
    if not (is_whole or column.dtype in IDENTIFIERS):
        raise UserError(
            f"{path}: column {name} holds {column.dtype} values; ids must be text or whole numbers."
        )
    column = column.cast(pl.String)
    column = column.set(column == "", None)
    _require_values(column, path, name)
    return column


def decoded(table: pl.DataFrame, path: Path, name: str) -> pl.Series:
    """Return a column; one of bytes, as which some programs write texts, is decoded as UTF-8.

    Raises:
        UserError: bytes are not UTF-8.
    """
    column = table[name]
    if column.dtype != pl.Binary:
        return column
    try:
        return column.cast(pl.String)
    except pl.exceptions.ComputeError:
        row = next(
            row
            for row, value in enumerate(column)
            if value is not None and "\ufffd" in value.decode("utf-8", "replace")
        )
        raise UserError(
            f"{path}: column {name} holds bytes that are not UTF-8, first in row {row}. Write the file again."
        ) from None


def times(table: pl.DataFrame, path: Path, name: str) -> pl.Series:
    """Return a column of times as numbers: numbers as they are, dates and instants as seconds since 1970.

    Raises:
        UserError: the column holds no times, or lacks a value.
    """
    column = table[name]
    _require_values(column, path, name)
    numbers = _numbers(column)
    if numbers is None:
        raise UserError(
            f"{path}: column {name} holds {column.dtype} values, which are not times. "
            "Name another with --time-column."
        )
    wrong = (~numbers.cast(pl.Float64).is_finite().fill_null(False)).arg_true()
    if len(wrong):
        raise UserError(
            f"{path}: column {name} holds {column[wrong[0]]!r} in row {wrong[0]}, which is not a time like "
            "the others. "
            "Use numbers or ISO dates, or another --time-column."
        )
    return numbers


def _numbers(column: pl.Series) -> pl.Series | None:
    """Return times as numbers, null where a text is not a time.

    Returns:
        None if the type of the column is not one of times.
    """
    if column.dtype == pl.String:
        candidates = (
            column.cast(pl.Int64, strict=False),
            column.cast(pl.Float64, strict=False),
            _instants(column),
        )
        column = min(candidates, key=pl.Series.null_count)  # the first of those that fit most values
    if isinstance(column.dtype, pl.Date):
        return column.to_physical() * DAY
    if isinstance(
        column.dtype, pl.Datetime
    ):  # as numbers, because polars panics at instants beyond the calendar
        return column.to_physical() / UNITS[column.dtype.time_unit]
    return column if column.dtype.is_numeric() else None


def _instants(column: pl.Series) -> pl.Series:
    """Return ISO dates as instants, null where a text is not a date.

    Time of day and UTC offset are optional.
    """
    day, clock, seconds, offset = column.str.extract_groups(ISO).struct.unnest().get_columns()
    seconds = seconds.fill_null("00")
    offset = offset.str.replace("Z", "+00:00").fill_null("+00:00")
    complete = day + " " + clock.fill_null("00:00") + ":" + seconds + offset
    return complete.str.strptime(pl.Datetime("us", "UTC"), "%Y-%m-%d %H:%M:%S%.f%#z", strict=False)


def _require_values(column: pl.Series, path: Path, name: str) -> None:
    if column.null_count():
        first = column.is_null().arg_true()[0]
        raise UserError(
            f"{path}: column {name} has no value in {column.null_count():,} rows, first in row {first}."
        )
