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
    found = Identifiers(name, option)
    return found.finished(found.add(column)), found.note


class Identifiers:
    """Identifiers of a column that comes in parts."""

    def __init__(self, name: str, option: str) -> None:
        """
        Args:
            name, option: see `identifiers`.
        """
        self._name, self._option = name, option
        self._rows = 0  # of the parts before
        self._is_decimal = False
        self._are_whole: bool | None = None  # all texts so far are like 151.0; None if there is none

    @property
    def note(self) -> str:
        """How the identifiers were converted; "" if they were not."""
        return "decimal numbers as whole ones" if self._is_decimal or self._are_whole else ""

    def add(self, column: pl.Series) -> pl.Series:
        """Return a part of the column as text, null where there is none; `finished` makes it an identifier.

        Raises:
            UserError: the part holds neither text nor whole numbers.
        """
        column = decoded(column, self._name, self._rows)
        self._rows += len(column)
        if column.dtype.is_float() or (isinstance(column.dtype, pl.Decimal) and column.dtype.scale):
            numbers = column.cast(pl.Float64).fill_nan(None)
            whole = numbers.cast(pl.Int64, strict=False)
            if (whole.cast(pl.Float64) != numbers).any() or whole.null_count() > numbers.null_count():
                raise _wrong(column, self._name, self._option)
            column, self._is_decimal = whole, True
        is_whole = column.dtype.is_integer() or isinstance(column.dtype, pl.Decimal)
        if not (is_whole or isinstance(column.dtype, IDENTIFIERS)):
            raise _wrong(column, self._name, self._option)
        if column.dtype.is_integer():
            return column.cast(pl.String)
        column = column.cast(pl.String)
        column = column.set(column.str.strip_chars().is_in(MISSING).fill_null(False), None)
        if self._are_whole is not False and column.null_count() < len(column):
            self._are_whole = bool(column.str.contains(WHOLE_FLOAT).all())
        return column

    def finished(self, texts: pl.Series) -> pl.Series:
        """Return texts of `add` as identifiers, after all parts were added."""
        return texts.str.replace(r"\.0+$", "") if self._are_whole else texts


def decoded(column: pl.Series, name: str, before: int = 0) -> pl.Series:
    """Return a column; one of bytes, as which some programs write texts, is decoded as UTF-8.

    Args:
        name: file of the column, for messages.
        before: number of rows before this part of the column, for messages.

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
            f"{name}: column {column.name} holds bytes that are not UTF-8, first in row {before + row + 1}. "
            "Write the file again."
        ) from None


def _wrong(column: pl.Series, name: str, option: str) -> UserError:
    return UserError(
        f"{name}: column {column.name} holds {column.dtype} values; ids must be text or whole numbers. Name "
        f"another column with {option}."
    )
