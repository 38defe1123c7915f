"""Several files as one table whose rows know their places."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl

from pipelines.errors import UserError
from pipelines.import_.unusable import Unusable
from pipelines.prepare.account import Account
from pipelines.progress import Progress
from pipelines.readers.read import read_large, read_source
from pipelines.readers.rows import Reading, Source

ROW = "\0row"  # column with the number of a row over all files; files with a NUL in a name are refused
LARGE = 1 << 26  # bytes of all files from which their rows are not held in memory
PIECE = 1 << 19  # most rows of a piece


@dataclass(frozen=True)
class Combined:
    """Rows of several files.

    Attributes:
        sources: the files.
        schema: types of their columns over all files.
        flag: option that names the files, for messages.
    """

    sources: tuple[Source, ...]
    schema: pl.Schema
    flag: str

    @property
    def columns(self) -> list[str]:
        """Names of the columns of the files."""
        return list(self.schema)

    @property
    def name(self) -> str:
        """The files in words, for messages."""
        first = str(self.sources[0].path)
        return first if len(self.sources) == 1 else f"{first} and {len(self.sources) - 1:,} more files"

    @property
    def ordered(self) -> bool:
        """True if the rows are in order although there may be no times."""
        return all(source.rows.ordered for source in self.sources)

    def __len__(self) -> int:
        """Number of rows."""
        return sum(len(source.rows) for source in self.sources)

    def pieces(self) -> Iterator[pl.DataFrame]:
        """Yield all rows in order, as tables of at most `PIECE` rows with `ROW`. Each call reads again."""
        start = 0
        for source in self.sources:
            for table in source.rows.tables():
                fitted = _fitted(table, self.schema)
                for piece in fitted.iter_slices(PIECE):
                    rows = pl.int_range(start, start + len(piece), eager=True).alias(ROW)
                    yield piece.with_columns(rows)
                    start += len(piece)

    @cached_property
    def table(self) -> pl.DataFrame:
        """All rows, with `ROW`, in memory."""
        return pl.concat(self.pieces())

    def head(self, rows: int) -> pl.DataFrame:
        """Return the first rows, with `ROW`."""
        return next(self.pieces()).head(rows)

    def place(self, row: int) -> str:
        """Return file and line of a row.

        Args:
            row: value of `ROW`.
        """
        for source in self.sources:
            if row < len(source.rows):
                return f"{source.path}, {source.rows.place(row)}"
            row -= len(source.rows)
        raise IndexError(row)

    def require(self, columns: Sequence[str]) -> None:
        """Check that every file has the columns.

        Raises:
            UserError: one lacks a column that others have.
        """
        for source in self.sources:
            missing = [name for name in columns if name not in source.rows.table.columns]
            if missing:
                raise UserError(
                    f"{source.path} has no column {missing[0]}, which other files of {self.flag} have; it "
                    f"has {', '.join(source.rows.table.columns)}. Leave the file out or give it the column."
                )

    def unread(self, unusable: Unusable) -> None:
        """Count the lines that could not be read."""
        for source in self.sources:
            for line in source.rows.unread:
                unusable.add(line.reason, 1, f"{source.path}, {line.place}: {line.text}")


def read_all(
    paths: Sequence[Path], flag: str, how: Reading, account: Account, progress: Progress
) -> Combined:
    """Read files of any known format as one table, and enter them in the account.

    The rows of files that together have `LARGE` bytes or more are not held in memory.

    Raises:
        UserError: a file cannot be read.
    """
    large = sum(path.stat().st_size for path in paths if path.is_file()) >= LARGE
    sources = []
    with progress.task(f"Reading {flag}", len(paths), "files") as task:
        for path in paths:
            sources.append(read_large(path, how, alone=len(paths) == 1) if large else read_source(path, how))
            task.advance()
    for source in sources:
        remark = f"; {source.remark}" if source.remark else ""
        account.files.append((str(source.path), source.described() + remark))
    return Combined(tuple(sources), _common([source.rows.table.clear() for source in sources]), flag)


def _common(tables: list[pl.DataFrame]) -> pl.Schema:
    """Return the columns of all tables, and types that hold the values of all: text, where types differ.

    A column whose types differ, and of which one is nested, is left out.
    """
    kinds: dict[str, set[pl.DataType]] = {}
    for table in tables:
        for name, kind in table.schema.items():
            kinds.setdefault(name, set()).add(kind)
    mixed = {
        name
        for name, found in kinds.items()
        if len({*found} - {pl.Null()}) > 1 and not all(kind.is_numeric() for kind in found - {pl.Null()})
    }
    nested = {name for name in mixed if any(kind.is_nested() or kind == pl.Binary for kind in kinds[name])}
    alike = [
        table.drop(nested & {*table.columns}).cast(
            {name: pl.String() for name in table.columns if name in mixed - nested}
        )
        for table in tables
    ]
    return pl.concat(alike, how="diagonal_relaxed").schema


def _fitted(table: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
    """Return a table with the columns and types of a schema; a column that it lacks is null."""
    return table.select(
        pl.col(name).cast(kind) if name in table.columns else pl.lit(None, kind).alias(name)
        for name, kind in schema.items()
    )
