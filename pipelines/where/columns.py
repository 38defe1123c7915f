"""Columns that conditions name: kinds of their values, and expressions that make values comparable.

Light to import.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

KINDS = {"number": "numbers", "text": "text", "boolean": "true or false", "date": "dates"}

Value = str | int | float | bool
Test = Callable[["pl.Expr"], "pl.Expr"]  # values of a column → whether each satisfies a condition


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Attributes:
        type: type of the column.
        leaf: type of its values; of a column of lists, that of their entries.
        kind: key of `KINDS`; "" for values that cannot be compared.
    """

    name: str
    type: pl.DataType
    leaf: pl.DataType
    kind: str


def kind_of(column: pl.DataType) -> str:
    """Return the kind of a column's values, of a column of lists that of the entries: "number", "text",
    "boolean" or "date"; "" if a condition cannot name the column.
    """
    return kind_of_type(leaf_of(column))


def leaf_of(kind: pl.DataType) -> pl.DataType:
    """Return the type of a column's values; of a column of lists, that of the entries."""
    while kind.is_nested() and hasattr(kind, "inner"):
        kind = kind.inner if not isinstance(kind.inner, type) else kind.inner()
    return kind


def kind_of_type(leaf: pl.DataType) -> str:
    """Return the key of `KINDS` for a type; "" if its values cannot be compared."""
    import polars as pl

    if leaf.is_numeric():
        return "number"
    kinds = {"text": (pl.String, pl.Categorical, pl.Enum), "boolean": (pl.Boolean,)}
    dates = {"date": (pl.Date, pl.Datetime)}
    return next((kind for kind, types in (kinds | dates).items() if isinstance(leaf, types)), "")


def kind_of_value(value: Value) -> str:
    if isinstance(value, bool):
        return "boolean"
    return "text" if isinstance(value, str) else "number"


def any_value(column: pl.Expr, kind: pl.DataType, test: Test) -> pl.Expr:
    """Return whether a value satisfies a test; of lists, whether any entry does."""
    import polars as pl

    if isinstance(kind, pl.Array):
        column, kind = column.arr.to_list(), pl.List(kind.inner)
    if not isinstance(kind, pl.List):
        return test(column)
    inner = kind.inner if isinstance(kind.inner, pl.DataType) else kind.inner()
    return column.list.eval(any_value(pl.element(), inner, test).fill_null(False)).list.any()


def comparable(column: Column) -> pl.Expr:
    import polars as pl

    values = pl.col(column.name)
    return instants(values, column.leaf) if column.kind == "date" else plain(values, column)


def plain(values: pl.Expr, column: Column) -> pl.Expr:
    """Return categories as text, decimal numbers as floats, NaN as missing; other values as they are."""
    import polars as pl

    if isinstance(column.leaf, (pl.Categorical, pl.Enum)):
        return values.cast(pl.String)
    if isinstance(column.leaf, pl.Decimal):
        return values.cast(pl.Float64)
    return values.fill_nan(None) if column.leaf.is_float() else values


def instants(values: pl.Expr, kind: pl.DataType) -> pl.Expr:
    """Return dates and instants as instants in UTC without a time zone."""
    import polars as pl

    if isinstance(kind, pl.Datetime) and kind.time_zone:
        values = values.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    return values.cast(pl.Datetime("us"))


def operate(operator: str, left: pl.Expr, right: pl.Expr) -> pl.Expr:
    """Compare two expressions by an operator: EQ, NEQ, LT, LTE, GT or GTE."""
    operations: dict[str, Callable[[], pl.Expr]] = {
        "EQ": lambda: left == right,
        "NEQ": lambda: left != right,
        "LT": lambda: left < right,
        "LTE": lambda: left <= right,
        "GT": lambda: left > right,
        "GTE": lambda: left >= right,
    }
    return operations[operator]()
