"""Reader of all public data sets that have a description: files of any size, block by block."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from pipelines.download import separated
from pipelines.download.description import Edition, Table
from pipelines.download.lines import REQUIRED, Lines
from pipelines.download.streams import AGAIN, blocks, place
from pipelines.download.values import value, values
from pipelines.errors import UserError
from pipelines.options import quoted
from pipelines.prepare.tables import Tables
from pipelines.progress import Progress

LINE = "\0line"  # column of the numbers of lines, beside those of a file


def read(edition: Edition, files: list[Path], progress: Progress) -> Tables:
    """Read the files of an edition that has a description.

    Args:
        files: paths of its files.

    Returns:
        Its tables. Without times, position is the place of an interaction in the file.

    Raises:
        UserError: a file is damaged or empty, lacks a column, or has a row without user, item or time.
    """
    assert edition.interactions, "the edition has a description"
    interactions = pl.concat(_parts(files[0], edition.interactions, None, progress))
    if "timestamp" not in interactions.columns:
        position = pl.int_range(len(interactions), eager=True).alias("position")
        interactions = interactions.with_columns(position)
    if edition.items is None:
        return Tables(interactions, pl.DataFrame(schema={"item_id": pl.String}), [])
    wanted = interactions["item_id"].unique()
    items = pl.concat(_parts(files[-1], edition.items, wanted, progress))
    items = items.unique("item_id", keep="first", maintain_order=True)
    return Tables(interactions, items, list(edition.text))


def _parts(path: Path, table: Table, wanted: pl.Series | None, progress: Progress) -> Iterator[pl.DataFrame]:
    """Yield the rows of each block of a file.

    Args:
        wanted: identifiers of the items that are needed; None for all rows.
    """
    name, names = place(path, table.member), list(table.names)
    identifiers = None if wanted is None else set(wanted)
    for first, data in blocks(path, table.member, progress):
        if table.form == "lines":
            yield _of_lines(Lines(data, first, name, table, identifiers), wanted)
            continue
        if not names:
            line, _, data = data.partition(b"\n")
            names, first = separated.header(line, name, table), first + 1
        if not data.strip():
            continue
        read = separated.read_block(data, first, path, name, table, names)
        yield _checked(read, name, table, wanted, pl.int_range(first, first + len(read), eager=True))


def _of_lines(lines: Lines, wanted: pl.Series | None) -> pl.DataFrame:
    """Return the rows of a block of lines."""
    read = lines.at_once()
    if read is not None:
        rows = values(_needed(read, lines.table, wanted), lines.table)
        if _first_incomplete(rows, lines.table) is None:
            return rows
    read, numbers = lines.one_by_one()
    return _checked(read, lines.name, lines.table, wanted, numbers)


def _checked(
    read: pl.DataFrame, name: str, table: Table, wanted: pl.Series | None, numbers: pl.Series
) -> pl.DataFrame:
    """Return the rows made of the values of a file.

    Args:
        read: values by their keys in the file.
        name: name of the file, for messages.
        numbers: number of the line of each row.

    Raises:
        UserError: a row lacks a value that it needs.
    """
    read = _needed(read.with_columns(numbers.alias(LINE)), table, wanted)
    rows = values(read, table)
    wrong = _first_incomplete(rows, table)
    if wrong is not None:
        row, column = wrong
        key = table.columns[column].key
        raise UserError(
            f"{name}, line {read[row, LINE]} holds {quoted(read[row, key])} as {key}; a row needs "
            f"{', '.join(c.key for c in table.columns.values() if c.kind in REQUIRED)}. {AGAIN}"
        )
    return rows


def _needed(read: pl.DataFrame, table: Table, wanted: pl.Series | None) -> pl.DataFrame:
    """Return the rows of the items that are needed, and those without an item unless the table has gaps."""
    if wanted is None:
        return read
    items = value(read, table.columns["item_id"])
    return read.filter(items.is_in(wanted.implode()).fill_null(not table.gaps))


def _first_incomplete(rows: pl.DataFrame, table: Table) -> tuple[int, str] | None:
    """Return row and column of the first value that is missing and needed, or None."""
    for name, column in table.columns.items():
        if column.kind in REQUIRED and rows[name].null_count():
            return int(rows[name].is_null().arg_true()[0]), name
    return None
