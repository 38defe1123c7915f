"""Identifiers of users and items as text."""

from __future__ import annotations

import polars as pl

from pipelines.errors import UserError

IDENTIFIERS = (pl.String, pl.Categorical, pl.Enum, pl.Null)  # types of identifiers besides whole numbers
MISSING = ("", "null", "NULL", "None", "NaN", "nan", r"\N")  # texts that stand for no identifier
WHOLE_FLOAT = r"^\d+\.0+$"  # a whole number as some programs write it: 151.0


def identifiers(column: pl.Series, name: str, option: str) -> tuple[pl.Series, str]:
    """Return a column of identifiers as text, null where there is none, and how they were converted.

    Args:
        name: file of the column, for messages.
        option: option that names another column.

    Raises:
        UserError: the column holds neither text nor whole numbers.
    """
    column = decoded(column, name)
    note = ""
    if column.dtype.is_float() or (isinstance(column.dtype, pl.Decimal) and column.dtype.scale):
        numbers = column.cast(pl.Float64).fill_nan(None)
        whole = numbers.cast(pl.Int64, strict=False)
        if (whole.cast(pl.Float64) != numbers).any() or whole.null_count() > numbers.null_count():
            raise _wrong(column, name, option)
        column, note = whole, "decimal numbers as whole ones"
    is_whole = column.dtype.is_integer() or isinstance(column.dtype, pl.Decimal)
    if not (is_whole or isinstance(column.dtype, IDENTIFIERS)):
        raise _wrong(column, name, option)
    column = column.cast(pl.String)
    column = column.set(column.str.strip_chars().is_in(MISSING).fill_null(False), None)
    values = column.drop_nulls()
    if len(values) and bool(values.str.contains(WHOLE_FLOAT).all()):
        column, note = column.str.replace(r"\.0+$", ""), "decimal numbers as whole ones"
    return column, note


def decoded(column: pl.Series, name: str) -> pl.Series:
    """Return a column; one of bytes, as which some programs write texts, is decoded as UTF-8.

    Args:
        name: file of the column, for messages.

    Raises:
        UserError: bytes are not UTF-8.
    """
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
            f"{name}: column {column.name} holds bytes that are not UTF-8, first in row {row + 1}. Write the "
            "file again."
        ) from None


def _wrong(column: pl.Series, name: str, option: str) -> UserError:
    return UserError(
        f"{name}: column {column.name} holds {column.dtype} values; ids must be text or whole numbers. Name "
        f"another column with {option}."
    )
