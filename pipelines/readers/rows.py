"""Rows of a file as a reader returns them, and how a file is to be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from pipelines.readers.names import is_known_identifier


@dataclass(frozen=True)
class Reading:
    """How files are read.

    Attributes:
        is_identifier: function that returns True for the name of a column of identifiers. In text formats,
            such columns are read as text, exactly as they are written ("007").
        columns: names of the columns of a file without a header; empty if they are not given.
        encoding: Python's name of the encoding; None finds it.
    """

    is_identifier: Callable[[str], bool] = is_known_identifier
    columns: tuple[str, ...] = ()
    encoding: str | None = None


@dataclass(frozen=True)
class Unread:
    """A line that could not be read.

    Attributes:
        reason: reason, a clause about the row: "has 3 fields in place of 4".
        place: its place in the file: "line 7".
        text: beginning of the line.
    """

    reason: str
    place: str
    text: str


@dataclass(frozen=True)
class Rows:
    """Content of a file.

    Attributes:
        table: one row per row of the file. Of a file that is read in pieces, no row.
        notes: what was found besides the format: "separator ';'".
        unread: lines that are not in the table.
        ordered: True if the rows of a user are in order although there may be no times.
        headless: True if the names of the columns are ours because the file has no header.
        place: function that returns the place of a row of the table in the file: "line 7".
        pieces: function that reads the rows of a file that is read in pieces, as tables with the columns of
            `table`; None if `table` has all rows.
        count: number of rows of such a file.
    """

    table: pl.DataFrame
    notes: tuple[str, ...] = ()
    unread: tuple[Unread, ...] = ()
    ordered: bool = False
    headless: bool = False
    place: Callable[[int], str] = lambda row: f"row {row + 1}"
    pieces: Callable[[], Iterator[pl.DataFrame]] | None = None
    count: int = 0

    def __len__(self) -> int:
        return len(self.table) if self.pieces is None else self.count

    def tables(self) -> Iterator[pl.DataFrame]:
        """Return all rows in order, as tables."""
        return iter([self.table]) if self.pieces is None else self.pieces()


@dataclass(frozen=True)
class Source:
    """A file that was read.

    Attributes:
        path: path of the file.
        format: name of its format.
        rows: its content.
        remark: what is odd about the name of the file; "" if nothing is.
        properties: encoding, separator, header, compression.
    """

    path: Path
    format: str
    rows: Rows
    remark: str = ""
    properties: tuple[str, ...] = field(default=())

    def described(self) -> str:
        """Return the format and the properties in words: "CSV, separator ';', UTF-8, 1,000 rows"."""
        return ", ".join((self.format, *self.properties, f"{len(self.rows):,} rows"))
