"""Files as tables: the one way in which the program reads files that it did not write."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import polars as pl

from pipelines.errors import UserError, hidden_panics, reading
from pipelines.readers.content import Content, read_content, read_start
from pipelines.readers.formats import Reader, reader_of, remark
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
    with _reading(path, reader):
        rows = reader.read(content, how)
        rows = dataclasses.replace(rows, table=_wide(rows.table))
    return _source(content, reader, rows)


def read_large(path: Path, how: Reading, *, alone: bool) -> Source:
    """Read a file whose rows are not held in memory: each call of `Rows.tables` reads it again.

    Parquet, and separated values in UTF-8, are read in pieces, any other format as a whole.

    Args:
        alone: True if a file that is read as a whole may stay in memory.

    Raises:
        UserError: see `read_source`.
    """
    content = read_start(path, how.encoding) if path.is_file() else None
    reader = reader_of(content, how) if content is not None else None
    if content is not None and reader is not None and reader.read_pieces is not None:
        with _reading(path, reader):
            rows = reader.read_pieces(content, how)
        if rows is not None:
            return _source(content, reader, _guarded(path, reader, rows))
    source = read_source(path, how)
    if alone:
        return source

    def again() -> Rows:
        return read_source(path, how).rows

    rows = dataclasses.replace(
        source.rows,
        table=source.rows.table.clear(),
        pieces=lambda: iter([again().table]),
        count=len(source.rows),
        place=lambda row: again().place(row),
    )
    return dataclasses.replace(source, rows=rows)


def _reading(path: Path, reader: Reader) -> AbstractContextManager[object]:
    """Return a context in which any error of reading becomes a UserError of one line."""
    context = ExitStack()
    context.enter_context(reading(path, f"file of the format {reader.name}", "Check that it is whole."))
    context.enter_context(hidden_panics())
    return context


def _guarded(path: Path, reader: Reader, rows: Rows) -> Rows:
    """Return rows whose pieces are checked as they are read."""
    assert rows.pieces is not None
    unguarded = rows.pieces

    def pieces() -> Iterator[pl.DataFrame]:
        found = unguarded()
        while True:
            with _reading(path, reader):
                piece = next(found, None)
            if piece is None:
                return
            yield _wide(piece)

    return dataclasses.replace(rows, table=_wide(rows.table), pieces=pieces)


def _source(content: Content, reader: Reader, rows: Rows) -> Source:
    path = content.path
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
    if not len(rows):
        if rows.unread:
            first = rows.unread[0]
            raise UserError(f"{path} holds no rows that can be read, first {first.place}: {first.text}.")
        raise UserError(f"{path} holds no rows; there is nothing to read.")


def _wide(table: pl.DataFrame) -> pl.DataFrame:
    """Return integers of 128 bits, which few operations support, as text."""
    wide = [name for name, kind in table.schema.items() if kind in (pl.Int128, pl.UInt128)]
    return table.with_columns(pl.col(wide).cast(pl.String)) if wide else table
