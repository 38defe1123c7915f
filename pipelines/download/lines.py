"""Lines that are JSON objects or Python dictionaries, read as columns.

A block of lines is read at once. If it is not JSON of the expected types, its lines are parsed one by one,
which also tells the wrong line.
"""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeGuard

import polars as pl

from pipelines.download.description import Column, Table
from pipelines.download.streams import AGAIN
from pipelines.errors import UserError, hidden_panics
from pipelines.readers.content import parse_literal

TYPES: dict[str, pl.DataType] = {  # kind of a column → type of its values in JSON
    "id": pl.String(),
    "time": pl.Int64(),
    "date": pl.String(),
    "number": pl.Float64(),
    "text": pl.String(),
    "price": pl.String(),
    "dollars": pl.String(),
    "words": pl.List(pl.String()),
}
REQUIRED = ("id", "time", "date")  # kinds of columns of which each row needs a value
OTHER = r"^[\[{]|\x00"  # as which polars reads a list or an object, and half a surrogate pair
NESTED = r'^\[(["\[]|\]$)'  # as which polars reads a list of texts or lists


@dataclass(frozen=True)
class Lines:
    """A block of lines.

    Attributes:
        data: whole lines.
        first: number of the first line, counted from 1.
        name: name of the file, for messages.
        table: description of the rows.
        wanted: identifiers of the items that are needed; None for all.
    """

    data: bytes
    first: int
    name: str
    table: Table
    wanted: set[str] | None

    def at_once(self) -> pl.DataFrame | None:
        """Return the values by their keys in the file; None if the lines must be parsed one by one."""
        if self.table.nested:
            return None
        schema = {key: TYPES[column.kind] for column in self.table.columns.values() for key in column.keys}
        try:
            with hidden_panics():
                values = pl.read_ndjson(self.data, schema=schema)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
            return None
        ids = [pl.col(key).str.contains(OTHER).any() for key in self._keys("id")]
        words = [pl.col(key).explode().str.contains(NESTED).any() for key in self._keys("words")]
        return None if values.select(pl.any_horizontal(*ids, *words)).item() else values

    def one_by_one(self) -> tuple[pl.DataFrame, pl.Series]:
        """Return the values by their keys in the file, and the number of the line of each row.

        Items that are not needed are left out; most of their lines are not parsed.

        Raises:
            UserError: a line is neither a JSON object nor a Python literal of one, or lacks an identifier or
                a time.
        """
        keys = {key: column for column in self.table.columns.values() for key in column.keys}
        rows, numbers = [], []
        for number, entry in self._entries():
            rows.append(tuple(self._value(entry, key, column, number) for key, column in keys.items()))
            numbers.append(number)
        schema = {key: TYPES[column.kind] for key, column in keys.items()}
        return pl.DataFrame(rows, schema=schema, orient="row"), pl.Series(numbers, dtype=pl.Int64)

    def _keys(self, kind: str) -> list[str]:
        return [key for column in self.table.columns.values() if column.kind == kind for key in column.keys]

    def _entries(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the number of the line and the object of each row."""
        key = re.escape(self.table.columns["item_id"].key.encode())
        identifier = re.compile(rb"""["']""" + key + rb"""["']:\s*u?["']([^"']+)["']""")
        for number, line in enumerate(self.data.split(b"\n"), start=self.first):
            found = identifier.search(line) if self.wanted is not None else None
            if not line.strip() or (found and found[1].decode(errors="replace") not in (self.wanted or ())):
                continue
            entry = parse(line, self.name, number)
            if not self.table.nested:
                yield number, entry
                continue
            for part in entry.get(self.table.nested) or ():
                if isinstance(part, dict):
                    yield number, entry | part

    def _value(self, entry: dict[str, Any], key: str, column: Column, number: int) -> Any:
        """Return a value of the type of its column.

        Raises:
            UserError: it is missing or of another type, and the row needs it.
        """
        value = converted(entry.get(key), column.kind)
        if value is None and column.kind in REQUIRED and not (column.kind == "id" and self.table.gaps):
            needed = ", ".join(c.key for c in self.table.columns.values() if c.kind in REQUIRED)
            state = f"holds {reprlib.repr(entry[key])} as" if key in entry else "has no"
            raise UserError(f"{self.name}, line {number} {state} {key}; a row needs {needed}. {AGAIN}")
        return value


def parse(line: bytes, name: str, number: int) -> dict[str, Any]:
    """Parse one line into a dictionary. Nothing in the line is evaluated.

    Args:
        name: name of the file, for messages.
        number: number of the line, for messages.

    Raises:
        UserError: the line is neither a JSON object nor a Python literal of a dictionary.
    """
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = parse_literal(line.decode("utf-8", "replace"))
    if not isinstance(value, dict):
        raise UserError(
            f"{name}, line {number} is neither a JSON object nor a Python literal: {line[:60]!r}. {AGAIN}"
        )
    return value


def converted(value: object, kind: str) -> Any:
    """Return a value of a line as one of the type of its kind; None if it has another type."""
    if kind == "id":
        whole = isinstance(value, int) and not isinstance(value, bool)
        return str(value) if whole else value if _is_storable(value) else None
    if kind == "date":
        return value if _is_storable(value) else None
    if kind in ("time", "number"):
        return (int(value) if kind == "time" else float(value)) if _is_number(value) else None
    if kind == "words":
        return list(_texts(value))
    if isinstance(value, str):
        return _storable(value)
    return str(value) if _is_number(value) else None


def _is_storable(value: object) -> TypeGuard[str]:
    """Return True for text without unpaired surrogates, which cannot be stored."""
    return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)


def _storable(text: str) -> str:
    """Return a text in which a question mark stands for each unpaired surrogate."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _is_number(value: object) -> TypeGuard[float]:
    """Return True for a finite number in the range of int64."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -(2**63) <= value < 2**63


def _texts(value: object) -> Iterator[str]:
    """Yield the texts in nested lists, in order."""
    stack = [value]
    while stack:
        entry = stack.pop()
        if isinstance(entry, list):
            stack += reversed(entry)
        elif isinstance(entry, str):
            yield _storable(entry)
