"""Separated values, read as columns of text block by block."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.csv as pc

from pipelines.download.description import Table
from pipelines.download.streams import AGAIN
from pipelines.errors import UserError, reading
from pipelines.options import quoted


def header(line: bytes, name: str, table: Table) -> list[str]:
    """Return the names of the columns from the first line of a file.

    Args:
        name: name of the file, for messages.
        table: description of the rows.

    Raises:
        UserError: a column of the description is missing.
    """
    text = line.decode("utf-8-sig", "replace").strip("\r\n")
    names = next(csv.reader([text], delimiter=table.separator), [])
    for key in (key for column in table.columns.values() for key in column.keys):
        if key not in names:
            raise UserError(f"{name} has no column {key}; its first line is {quoted(text)}. {AGAIN}")
    return names


def read_block(
    data: bytes, first: int, path: Path, name: str, table: Table, names: list[str]
) -> pl.DataFrame:
    """Return the columns of the description as text; a missing value is null.

    Args:
        data: whole lines without the header.
        first: number of the first line.
        path: path of the file, for messages.
        name: name of the table, for messages.
        table: description of the rows.
        names: names of the columns.

    Raises:
        UserError: a line has another number of values than there are columns, or the text is not UTF-8.
    """
    wrong: list[pc.InvalidRow] = []

    def keep(row: pc.InvalidRow) -> str:
        wrong.append(row)
        return "skip"

    keys = list(dict.fromkeys(key for column in table.columns.values() for key in column.keys))
    with reading(path, "table of separated values", AGAIN):
        data.decode()
        read = pc.read_csv(
            io.BytesIO(data),
            pc.ReadOptions(use_threads=False, block_size=len(data), column_names=names),
            pc.ParseOptions(
                delimiter=table.separator,
                quote_char='"' if table.separator == "," else False,
                newlines_in_values=True,
                invalid_row_handler=keep,
            ),
            pc.ConvertOptions(
                column_types=dict.fromkeys(keys, pa.string()),
                include_columns=keys,
                null_values=[""],
                strings_can_be_null=True,
            ),
        )
    if wrong:
        line = first + (wrong[0].number or 1) - 1
        raise UserError(
            f"{name}, line {line} has {wrong[0].actual_columns} values, expected {len(names)}: "
            f"{quoted(wrong[0].text)}. {AGAIN}"
        )
    frame = pl.from_arrow(read)
    assert isinstance(frame, pl.DataFrame)
    return frame
