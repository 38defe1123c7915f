"""Item sequences of a data set that stay in their Parquet files and are read a part at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.artifacts import SCHEMAS
from pipelines.data.groups import Groups
from pipelines.data.listing import Listing, is_list, is_listing, read_listing
from pipelines.data.sequences import AGAIN, HINT, Sequences, gather, sequences_of
from pipelines.errors import UserError, reading
from pipelines.temporal import COLUMNS, is_temporal

CHUNK = 65_536  # users of a chunk


class StoredSequences:
    """Item sequences of all users, read by row groups or by chunks of users.

    Attributes:
        path: sequences.parquet of the data set, which holds the sequences or lists the files that do.
    """

    def __init__(self, path: Path, n_items: int | None = None) -> None:
        """
        Args:
            path: sequences.parquet of a data set.
            n_items: N; if it is given, item numbers must be below it.

        Raises:
            UserError: a file is missing, unreadable, of another kind, or has changed since it was listed.
        """
        self.path, self._n_items = path, n_items
        if not path.exists():
            raise UserError(f"{path} does not exist. {HINT}")
        self._listing = read_listing(path) if is_listing(path) else Listing([path])
        self._files = [_open(file, self._listing) for file in self._listing.files]
        own = self._listing.numbers is None  # files of other programs say nothing of a split
        self._split = [*COLUMNS] if own and is_temporal(self._files[0].schema_arrow.names) else []
        self._groups = [
            (file, group)
            for file, opened in enumerate(self._files)
            for group in range(opened.num_row_groups)
            if opened.metadata.row_group(group).num_rows
        ]
        if not self._groups:
            raise UserError(f"{path} holds no rows; there is nothing to work on.")

    def __len__(self) -> int:
        return int(self.groups.rows.sum())

    @cached_property
    def groups(self) -> Groups:
        """The row groups of all files."""
        rows = [self._files[file].metadata.row_group(group).num_rows for file, group in self._groups]
        return Groups(np.array(rows, np.int64), self.read)

    @property
    def is_temporal(self) -> bool:
        """True if the sequences have a temporal split."""
        return bool(self._split)

    @property
    def interactions(self) -> int:
        """Number of items of all sequences, as the files state it."""
        total, path = 0, f"{self._listing.items}."
        for file, group in self._groups:
            metadata = self._files[file].metadata.row_group(group)
            columns = (metadata.column(number) for number in range(metadata.num_columns))
            total += next(column.num_values for column in columns if column.path_in_schema.startswith(path))
        return total

    def read(self, group: int) -> Sequences:
        """Return the sequences of a row group.

        Raises:
            UserError: the group cannot be read; a user has too few items for the split; an item number is
                missing or out of range, or an item is none of the data set.
        """
        file, number = self._groups[group]
        with self._reading(file):
            table = self._files[file].read_row_group(number, columns=[self._listing.items, *self._split])
            table.validate(full=True)
        return self._sequences(file, table, int(self.groups.first_rows[group]))

    def chunks(self, size: int = CHUNK) -> Iterator[tuple[int, Sequences]]:
        """Yield the number of the first user, and the sequences, of one chunk of users after another."""
        for first, _, sequences in self.users(size, names=False):
            yield first, sequences

    def users(self, size: int, *, names: bool = True) -> Iterator[tuple[int, pa.ChunkedArray, Sequences]]:
        """Yield the number of the first user, the ids (without `names` the lists), and the sequences, of one
        chunk of users after another.
        """
        items = self._listing.items
        first, columns = 0, [self._listing.user] * names + [items, *self._split]
        for file, opened in enumerate(self._files):
            batches = opened.iter_batches(size, columns=columns)
            while True:
                with self._reading(file):
                    batch = next(batches, None)
                    if batch is None:
                        break
                    table = pa.Table.from_batches([batch])
                    table.validate(full=True)
                yield first, table.column(columns[0]), self._sequences(file, table, first)
                first += len(table)

    def of_users(self, users: np.ndarray) -> Sequences:
        """Return the whole sequences of some users, without bounds. Only their row groups are read.

        Args:
            users: user numbers, int64 [B], ascending.
        """
        ends = np.cumsum(self.groups.rows)
        group_of = np.searchsorted(ends, users, side="right")
        parts = []
        for group in np.unique(group_of).tolist():
            sequences = self.read(group)
            rows = users[group_of == group] - (ends[group] - self.groups.rows[group])
            parts.append(gather(sequences.items, sequences.offsets[rows], sequences.lengths[rows]))
        lengths = np.concatenate([part.lengths for part in parts])
        return Sequences(
            np.concatenate([part.items for part in parts]), np.concatenate([[0], np.cumsum(lengths)])
        )

    def names(self) -> pa.ChunkedArray:
        """Return the ids of all users."""
        column, parts = self._listing.user, []
        for file, opened in enumerate(self._files):
            with self._reading(file):
                parts += opened.read(columns=[column]).column(column).chunks
        return pa.chunked_array(parts)

    def targets(self, period: str) -> np.ndarray:
        """Return the users with a target in the test or the validation, ascending, int64 [B].

        Args:
            period: "test" or "validation".
        """
        if not self.is_temporal:
            return np.arange(len(self))
        with self._reading(0):
            column = self._files[0].read(columns=[f"{period}_target"]).column(0).fill_null(False)
        return np.flatnonzero(column.to_numpy())

    def _sequences(self, file: int, table: pa.Table, first: int) -> Sequences:
        listing = self._listing
        return sequences_of(
            *(listing.files[file], table.column(listing.items), self._n_items),
            first=first,
            numbers=listing.numbers,
            split=table if self._split else None,
        )

    def _reading(self, file: int) -> AbstractContextManager[None]:
        return reading(self._listing.files[file], "Parquet file", AGAIN)


def _open(file: Path, listing: Listing) -> pq.ParquetFile:
    """Open a file of sequences.

    Raises:
        UserError: it cannot be read, or has no column of lists of items.
    """
    with reading(file, "Parquet file", AGAIN):
        opened = pq.ParquetFile(file, page_checksum_verification=True)
    schema = opened.schema_arrow
    for column in (listing.user, listing.items):
        if column not in schema.names:
            raise UserError(f"{file} has no column {column!r} (it has {', '.join(schema.names)}). {AGAIN}")
    kind = schema.field(listing.items).type
    expected = SCHEMAS["sequences"]["items"]
    if kind != expected if listing.numbers is None else not is_list(kind):
        raise UserError(f"{file}: column {listing.items} is {kind}, expected {expected}. {AGAIN}")
    return opened
