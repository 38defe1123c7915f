"""Files as tables: the one way in which the program reads files that it did not write."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import polars as pl

from pipelines.errors import UserError, hidden_panics, reading
from pipelines.readers.content import read_content
from pipelines.readers.formats import reader_of, remark
from pipelines.readers.names import is_known_identifier
from pipelines.readers.rows import Reading, Rows, Source


def read_table(path: Path, is_identifier: Callable[[str], bool] = is_known_identifier) -> pl.DataFrame:
    """Read a file of any known format as a table, and refuse lines that cannot be read.

    Nested objects become columns with dots in their names. `typed.storable` gives the columns types that
    artifacts can hold.

    Args:
        is_identifier: function that returns True for the name of a column of identifiers. In text formats,
            such columns are read as text, exactly as they are written ("007").

    Raises:
        UserError: the file cannot be read, has no rows, or has a line that cannot be read.
    """
    source = read_source(path, Reading(is_identifier))
    for unread in source.rows.unread:
        raise UserError(
            f"{path}: {len(source.rows.unread):,} rows {unread.reason}, first {unread.place}: {unread.text}. "
            "Mend or remove them."
        )
    return source.rows.table


def read_source(path: Path, how: Reading) -> Source:
    """Read a file of any known format.

    Raises:
        UserError: the file cannot be read or has no rows, or the name of a column has a NUL.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist or is not a file.")
    content = read_content(path, how.encoding)
    if content.is_text and not content.start:
        raise UserError(f"{path} holds no rows; there is nothing to read.")
    reader = reader_of(content, how)
    advice = "Check that it is whole."
    with reading(path, f"file of the format {reader.name}", advice), hidden_panics():
        rows = reader.read(content, how)
        rows = dataclasses.replace(rows, table=_wide(rows.table))
    _check(path, rows)
    separated = [rows.notes[0]] if rows.notes else []
    encoding = [content.encoding] if content.encoding else []
    packed = ["gzip"] if content.packed else []
    properties = (*separated, *encoding, *packed, *rows.notes[1:])
    return Source(path, reader.name, rows, remark(content, reader), properties)


def _check(path: Path, rows: Rows) -> None:
    for name in rows.table.columns:
        if "\0" in name:
            raise UserError(f"{path}: the column {name!r} has a NUL in its name. Give it another name.")
    if rows.table.is_empty():
        if rows.unread:
            first = rows.unread[0]
            raise UserError(f"{path} holds no rows that can be read, first {first.place}: {first.text}.")
        raise UserError(f"{path} holds no rows; there is nothing to read.")


def _wide(table: pl.DataFrame) -> pl.DataFrame:
    """Return integers of 128 bits, which few operations support, as text."""
    wide = [name for name, kind in table.schema.items() if kind in (pl.Int128, pl.UInt128)]
    return table.with_columns(pl.col(wide).cast(pl.String)) if wide else table
