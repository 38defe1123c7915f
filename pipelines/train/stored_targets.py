"""Soft targets read from their file, a range of places at a time.

Shapes: P places, K items of a place."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from pipelines import artifacts
from pipelines.errors import UserError, reading

ENTRY_BYTES = 6  # of an item and its probability
AGAIN = "Remove it and train again."


class StoredTargets:
    """Soft targets in their file, read a range of places at a time."""

    def __init__(self, path: Path) -> None:
        """
        Raises:
            UserError: the file is missing or damaged.
        """
        self.path = path
        with reading(path, "Parquet file", AGAIN):
            self._file = pq.ParquetFile(path, page_checksum_verification=True)
        metadata = self._file.metadata
        rows = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        self._ends = np.cumsum(rows)  # [row groups]

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def place_bytes(self) -> int:
        """Bytes of a place in memory."""
        return ENTRY_BYTES * self.count

    def check(self, places: int) -> None:
        """Check the number of places.

        Raises:
            UserError: it is another one.
        """
        if len(self) != places:
            raise UserError(
                f"{self.path} holds soft targets of {len(self):,} places, and the training sequences have "
                f"{places:,}. {AGAIN}"
            )

    @cached_property
    def count(self) -> int:
        """K."""
        width: int = self._file.schema_arrow.field("items").type.list_size
        return width

    def read(self, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the items, int32 [places, K], and the probabilities, float16 [places, K], of the places from
        `first` up to `last`.

        Raises:
            UserError: the file is damaged.
        """
        items = np.empty((last - first, self.count), np.int32)
        probabilities = np.empty((last - first, self.count), np.float16)
        groups = range(
            int(np.searchsorted(self._ends, first, side="right")), int(np.searchsorted(self._ends, last)) + 1
        )
        for group in groups if last > first else ():
            with reading(self.path, "Parquet file", AGAIN):
                table = self._file.read_row_group(group)
            end = int(self._ends[group])
            begin = end - len(table)
            inside = slice(max(first, begin) - begin, min(last, end) - begin)
            place = slice(max(first, begin) - first, min(last, end) - first)
            items[place] = artifacts.matrix(table, "items", self.path)[inside]
            probabilities[place] = artifacts.matrix(table, "probabilities", self.path)[inside]
        return items, probabilities
