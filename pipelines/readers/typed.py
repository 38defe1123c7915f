"""Types of columns: numbers, true and false, and lists are told from texts; nested objects become columns."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from pipelines.readers.content import parse_literal

INTEGER = r"^[+-]?(0|[1-9]\d*)$"
DECIMAL = r"^[+-]?(0|[1-9]\d*|\d+[.]\d*|[.]\d+)([eE][+-]?\d+)?$"
DECIMAL_COMMA = r"^[+-]?(0|[1-9]\d*|\d+,\d+)$"
LIST = r"(?s)^\s*\[.*\]\s*$"
BOOLEANS = {"true": True, "false": False, "True": True, "False": False, "TRUE": True, "FALSE": False}
MISSING = ("NA", "N/A", "NaN", "nan", "null", "NULL", "None", r"\N")  # in columns of numbers
DEEPEST = 8  # levels of nested objects that become columns


LISTS, WHOLE, DECIMALS, COMMAS, TRUTHS = "lists", "whole", "decimals", "commas", "truths"  # narrowest first


@dataclass
class Kinds:
    """Kinds of values that fit all values of a column of text.

    Attributes:
        comma: True if numbers may have a decimal comma.
        fitting: kinds that fit so far.
        some: True if there was a value that is not of `MISSING`.
    """

    comma: bool = False
    fitting: set[str] = field(default_factory=lambda: {LISTS, WHOLE, DECIMALS, COMMAS, TRUTHS})
    some: bool = False

    def add(self, column: pl.Series) -> None:
        """Keep the kinds that fit a part of the column, too."""
        values = column.drop_nulls()
        if values.is_empty() or not self.fitting:
            return
        if LISTS in self.fitting and not values.str.contains(LIST).all():
            self.fitting.discard(LISTS)
        present = values.filter(~values.is_in(MISSING))
        self.some |= not present.is_empty()
        fits: dict[str, Callable[[], object]] = {
            WHOLE: lambda: present.str.contains(INTEGER).all() and not _whole(present).null_count(),
            DECIMALS: lambda: present.str.contains(DECIMAL).all(),
            COMMAS: lambda: self.comma and present.str.contains(DECIMAL_COMMA).all(),
            TRUTHS: lambda: present.is_in(list(BOOLEANS)).all(),
        }
        self.fitting -= {kind for kind in fits if kind in self.fitting and not fits[kind]()}

    @property
    def narrowest(self) -> str | None:
        """The narrowest kind; None for text."""
        kinds = (LISTS, WHOLE, DECIMALS, COMMAS, TRUTHS) if self.some else (LISTS,)
        return next((kind for kind in kinds if kind in self.fitting), None)


def typed(table: pl.DataFrame, is_identifier: Callable[[str], bool], comma: bool = False) -> pl.DataFrame:
    """Give columns of text the types of their values; an empty text becomes a missing value.

    Args:
        is_identifier: function that returns True for the name of a column that stays text.
        comma: True if numbers may have a decimal comma.
    """
    table = table.with_columns(pl.col(pl.String).replace("", None))
    return table.with_columns(
        [
            _typed(table[name], comma)
            for name, kind in table.schema.items()
            if kind == pl.String and not is_identifier(name)
        ]
    )


def _typed(column: pl.Series, comma: bool) -> pl.Series:
    """Return a column of text with the narrowest type that fits all values."""
    kinds = Kinds(comma)
    kinds.add(column)
    return column if column.null_count() == len(column) else of_kind(column, kinds.narrowest)


def of_kind(column: pl.Series, kind: str | None) -> pl.Series:
    """Return a column of text as values of a kind that fits all of them; text for None."""
    if kind is None:
        return column
    if kind == LISTS:
        lists = _lists(column)
        return column if lists is None else lists
    numbers = column.set(column.is_in(MISSING).fill_null(False), None)
    if kind == WHOLE:
        return _whole(numbers)
    if kind == DECIMALS:
        return numbers.cast(pl.Float64)
    if kind == COMMAS:
        return numbers.str.replace(",", ".", literal=True).cast(pl.Float64)
    return numbers.replace_strict(BOOLEANS, return_dtype=pl.Boolean)


def _whole(numbers: pl.Series) -> pl.Series:
    """Return texts as integers, null beyond 64 bits."""
    return numbers.cast(pl.Int64, strict=False)


def _lists(column: pl.Series) -> pl.Series | None:
    """Return a column of texts like "[3, 5]" as lists; None if one is no list."""
    inner = column.str.strip_chars().str.slice(1).str.head(-1).str.strip_chars()
    if not inner.str.contains(r"""['"\[{]""").any():
        separator = "," if inner.str.contains(",", literal=True).any() else " "
        if separator == " ":  # as numpy prints arrays
            inner = inner.str.replace_all(r"\s+", " ")
        entries = inner.str.split(separator).list.eval(pl.element().str.strip_chars())
        entries = entries.list.eval(pl.element().filter(pl.element() != ""))
    else:
        values = [None if text is None else _parsed(text) for text in column]
        if any(not isinstance(value, list) for value in values if value is not None):
            return None
        if any(isinstance(entry, (list, dict)) for value in values for entry in value or []):
            return None
        rows = [None if v is None else [None if e is None else str(e) for e in v] for v in values]
        entries = pl.Series(rows, dtype=pl.List(pl.String))
    flat = entries.explode().drop_nulls()
    kind = _typed(flat.rename("entry"), False).dtype if len(flat) else pl.String()
    if kind in (pl.Int64, pl.Float64):
        entries = entries.cast(pl.List(kind))
    return entries.rename(column.name)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return parse_literal(text)


def flat(table: pl.DataFrame) -> pl.DataFrame:
    """Make columns of nested objects: the field id of a column user becomes the column "user.id"."""
    for _ in range(DEEPEST):
        nested = {name for name, kind in table.schema.items() if isinstance(kind, pl.Struct)}
        if not nested:
            break
        taken: set[str] = set(table.columns) - nested
        columns: list[pl.Series] = []
        for column in table:
            fields = column.struct.unnest().get_columns() if column.name in nested else [column]
            for part in fields:
                name = f"{column.name}.{part.name}" if column.name in nested else column.name
                while column.name in nested and name in taken:
                    name += "_"
                taken.add(name)
                columns.append(part.alias(name))
        table = pl.DataFrame(columns)
    return table


def storable(table: pl.DataFrame) -> pl.DataFrame:
    """Give columns the types that artifacts can hold, see `storable_type`; lists of objects become JSON."""
    return table.with_columns(
        _storable(pl.col(name), kind).alias(name)
        for name, kind in table.schema.items()
        if storable_type(kind) != kind
    )


def storable_type(kind: pl.DataType) -> pl.DataType:
    """Return the type that can be stored in place of another.

    Text stands for integers of 128 bits, which Arrow does not support, categories, durations, objects and
    columns without any value; lists of any length for those of one length, which pyarrow 25 cannot read again
    where one is missing.
    """
    if isinstance(kind, (pl.List, pl.Array)):
        return pl.List(storable_type(inner_type(kind)))
    text = (pl.Int128, pl.UInt128, pl.Categorical, pl.Enum, pl.Duration, pl.Struct, pl.Null, pl.Object)
    return pl.String() if isinstance(kind, text) else kind


def _storable(column: pl.Expr, kind: pl.DataType) -> pl.Expr:
    if isinstance(kind, pl.Array):
        column, kind = column.arr.to_list(), pl.List(inner_type(kind))
    if isinstance(kind, pl.List) and leaf_type(kind) == pl.Null:
        return column.cast(storable_type(kind))
    if isinstance(kind, pl.List):
        return column.list.eval(_storable(pl.element(), inner_type(kind)))
    if isinstance(kind, pl.Struct):
        return pl.when(column.is_not_null()).then(column.struct.json_encode())
    if isinstance(kind, pl.Duration):
        return column.dt.to_string("polars")
    return column.cast(storable_type(kind))


def inner_type(kind: pl.DataType) -> pl.DataType:
    """Return the type of a list's entries, or any other type as it is."""
    if not isinstance(kind, (pl.List, pl.Array)):
        return kind
    return kind.inner if isinstance(kind.inner, pl.DataType) else kind.inner()


def leaf_type(kind: pl.DataType) -> pl.DataType:
    """Return the type of the entries of lists of lists of any depth, or any other type as it is."""
    while isinstance(kind, (pl.List, pl.Array)):
        kind = inner_type(kind)
    return kind
