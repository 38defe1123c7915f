"""Values of tables: identifiers, times, numbers and plain texts, made of the values that a file has."""

from __future__ import annotations

import html
import re
from collections.abc import Callable

import polars as pl

from pipelines.download.description import Column, Table

BLANKS = r"[\s\x1c-\x1f]+"
ENTITY = re.compile(
    r"&#?\w{1,32};?"
)  # bounded, because html.unescape converts the digits of an entity of any length
INSTANTS = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%SZ")  # forms of a date with a time of day
TITLE = r"^(?<title>.*?)\s*(?:\((?<year>\d{4})\))?\s*$"


def values(read: pl.DataFrame, table: Table) -> pl.DataFrame:
    """Return the columns of a description.

    Args:
        read: values by their keys in the file.
        table: description of the rows.
    """
    return pl.DataFrame([value(read, column).alias(name) for name, column in table.columns.items()])


def value(read: pl.DataFrame, column: Column) -> pl.Series:
    """Return one column; a missing or wrong value is null.

    Args:
        read: values by their keys in the file.
        column: its description.
    """
    best = read.select(pl.coalesce(*column.keys)).to_series()
    return CONVERTERS[column.kind](best)


def _identifiers(column: pl.Series) -> pl.Series:
    return column.cast(pl.String).replace("", None)


def _times(column: pl.Series) -> pl.Series:
    fractions = column.cast(pl.Float64, strict=False).cast(pl.Int64, strict=False)
    return column.cast(pl.Int64, strict=False).fill_null(fractions)


def _dates(column: pl.Series) -> pl.Series:
    """Return dates as seconds since 1970."""
    days = column.str.strptime(pl.Date, "%Y-%m-%d", strict=False).cast(pl.Datetime("us"))
    for form in INSTANTS:
        days = days.fill_null(column.str.strptime(pl.Datetime("us"), form, strict=False))
    return days.dt.epoch("s")


def _numbers(column: pl.Series) -> pl.Series:
    numbers = column.cast(pl.Float64, strict=False)
    return numbers.set(~numbers.is_finite().fill_null(True), None)


def _texts(column: pl.Series) -> pl.Series:
    """Return texts without HTML entities and repeated blanks."""
    escaped = column.filter(column.str.contains("&", literal=True).fill_null(False)).unique()
    plain = [ENTITY.sub(lambda match: html.unescape(match[0]), text) for text in escaped]
    column = column.replace(escaped, pl.Series(plain, dtype=pl.String))
    return column.str.replace_all("\0", "\ufffd", literal=True).str.replace_all(BLANKS, " ").str.strip_chars()


def _prices(column: pl.Series) -> pl.Series:
    """Return prices as texts, a number with a dollar sign."""
    return _texts(column).str.replace(r"^(\d)", r"$$${1}")


def _dollars(column: pl.Series) -> pl.Series:
    amount = column.str.extract(r"^\s*\$?\s*(\d[\d,]*(?:\.\d+)?)\s*$")
    return amount.str.replace_all(",", "", literal=True).cast(pl.Float64, strict=False)


def _titles(column: pl.Series) -> pl.Series:
    return _texts(column).str.extract(TITLE, 1)


def _years(column: pl.Series) -> pl.Series:
    return _texts(column).str.extract(TITLE, 2)


def _words(column: pl.Series) -> pl.Series:
    """Return lists of distinct texts, without empty ones; a missing list is empty."""
    rows = column.alias("texts").to_frame().with_row_index("row")
    texts = rows.explode("texts")
    texts = texts.with_columns(_texts(texts["texts"])).filter(pl.col("texts") != "")
    lists = texts.group_by("row").agg(pl.col("texts").unique(maintain_order=True))
    joined = rows.select("row").join(lists, on="row", how="left", maintain_order="left")
    return joined["texts"].fill_null(pl.Series([[]], dtype=pl.List(pl.String)))


def _barred(column: pl.Series) -> pl.Series:
    return _words(column.str.split("|"))


# Kind of a column → function from the values of a file to those of the column.
CONVERTERS: dict[str, Callable[[pl.Series], pl.Series]] = {
    "id": _identifiers,
    "time": _times,
    "date": _dates,
    "number": _numbers,
    "text": _texts,
    "price": _prices,
    "dollars": _dollars,
    "titled": _titles,
    "year": _years,
    "words": _words,
    "barred": _barred,
}
