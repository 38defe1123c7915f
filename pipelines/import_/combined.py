"""Several files as one table whose rows know their places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import polars as pl

from pipelines.errors import UserError
from pipelines.import_.unusable import Unusable
from pipelines.prepare.account import Account
from pipelines.progress import Progress
from pipelines.readers.read import read_source
from pipelines.readers.rows import Reading, Source

ROW = "\0row"  # column with the number of a row over all files; files with a NUL in a name are refused


@dataclass(frozen=True)
class Combined:
    """Rows of several files.

    Attributes:
        sources: the files.
        table: their rows and `ROW`.
        flag: option that names the files, for messages.
    """

    sources: tuple[Source, ...]
    table: pl.DataFrame
    flag: str

    @property
    def columns(self) -> list[str]:
        """Names of the columns of the files."""
        return [name for name in self.table.columns if name != ROW]

    @property
    def name(self) -> str:
        """The files in words, for messages."""
        first = str(self.sources[0].path)
        return first if len(self.sources) == 1 else f"{first} and {len(self.sources) - 1:,} more files"

    @property
    def ordered(self) -> bool:
        """True if the rows are in order although there may be no times."""
        return all(source.rows.ordered for source in self.sources)

    def place(self, row: int) -> str:
        """Return file and line of a row.

        Args:
            row: value of `ROW`.
        """
        for source in self.sources:
            if row < len(source.rows.table):
                return f"{source.path}, {source.rows.place(row)}"
            row -= len(source.rows.table)
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

    Raises:
        UserError: a file cannot be read.
    """
    sources = []
    with progress.task(f"Reading {flag}", len(paths), "files") as task:
        for path in paths:
            sources.append(read_source(path, how))
            task.advance()
    for source in sources:
        remark = f"; {source.remark}" if source.remark else ""
        account.files.append((str(source.path), source.described() + remark))
    tables = [source.rows.table for source in sources]
    starts = accumulate((len(table) for table in tables), initial=0)
    numbered = [
        table.with_columns(pl.int_range(start, start + len(table), eager=True).alias(ROW))
        for table, start in zip(_alike(tables), starts, strict=False)
    ]
    return Combined(tuple(sources), pl.concat(numbered, how="diagonal_relaxed"), flag)


def _alike(tables: list[pl.DataFrame]) -> list[pl.DataFrame]:
    """Return tables in which a column has the same type wherever it occurs: text, where types differ."""
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
    return [
        table.drop(nested & {*table.columns}).with_columns(
            pl.col(name).cast(pl.String) for name in table.columns if name in mixed - nested
        )
        for table in tables
    ]
