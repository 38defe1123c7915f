"""Reader of Parquet."""

from __future__ import annotations

import io
from collections.abc import Iterator

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.errors import UserError
from pipelines.readers.content import PARQUET, Content
from pipelines.readers.fields import ROWS
from pipelines.readers.rows import Reading, Rows
from pipelines.readers.typed import flat


def is_parquet(content: Content) -> bool:
    """Return True for Parquet."""
    return content.data.startswith(PARQUET)


def read_parquet(content: Content, how: Reading) -> Rows:
    """Read Parquet by Arrow, which never aborts the process, as polars does at some corrupted files.

    Arrow also checks that texts are UTF-8.
    """
    table = pq.ParquetFile(io.BytesIO(content.data) if content.packed else content.path).read()
    return Rows(_frame(table, content))


def read_parquet_pieces(content: Content, how: Reading) -> Rows:
    """Read Parquet in pieces."""
    file = pq.ParquetFile(content.path)
    empty = file.schema_arrow.empty_table()

    def pieces() -> Iterator[pl.DataFrame]:
        with pq.ParquetFile(content.path) as opened:
            for batch in opened.iter_batches(ROWS):
                yield _frame(pa.Table.from_batches([batch]), content)

    return Rows(_frame(empty, content), pieces=pieces, count=file.metadata.num_rows)


def _frame(table: pa.Table, content: Content) -> pl.DataFrame:
    """Return a table of Arrow as one of polars; nested objects become columns.

    Raises:
        UserError: a value cannot be read.
    """
    for name in table.column_names:
        try:
            table[name].validate(full=True)
        except pa.ArrowInvalid as error:
            raise UserError(
                f"{content.path}: column {name} cannot be read ({error}). Write the file again."
            ) from None
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return flat(frame)
