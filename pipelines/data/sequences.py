"""Item sequences of many users in two flat arrays (compressed sparse rows); no function here loops over users."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines import artifacts
from pipelines.errors import UserError

SHORTEST = 3  # items: one to train on, one to validate with, one to test with


@dataclass(frozen=True, eq=False)
class Sequences:
    """Item sequences in time order: row r is `items[offsets[r]:offsets[r + 1]]`.

    Attributes:
        items: int32 [total].
        offsets: int64 [rows + 1].
    """

    items: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Items per row, int64 [rows]."""
        return np.diff(self.offsets)

    def padded(self, rows: np.ndarray, max_items: int) -> np.ndarray:
        """The most recent `max_items` items of the given rows, left-padded with −1.

        Returns:
            int32 [len(rows), L], L the longest of these rows but at most `max_items`.
        """
        starts, ends = self.offsets[rows], self.offsets[np.asarray(rows) + 1]
        length = min(max_items, int((ends - starts).max(initial=0)))
        places = ends[:, None] + np.arange(-length, 0)  # [rows, L]
        inside = places >= starts[:, None]
        return np.where(inside, self.items[np.where(inside, places, 0)], np.int32(-1))

    def contains(self, items: np.ndarray) -> np.ndarray:
        """Which of `items` [rows, K] stand in their row; bool [rows, K], False for negative ones."""
        size = 1 + max(self.items.max(initial=0), items.max(initial=0))
        row = np.repeat(np.arange(len(self), dtype=np.int64), self.lengths)
        asked = np.where(items >= 0, np.arange(len(self), dtype=np.int64)[:, None] * size + items, -1)
        return np.isin(asked, row * size + self.items)

    def truncated(self, max_items: int) -> int:
        """How many rows `padded` cuts because they hold more than `max_items` items."""
        return int(np.count_nonzero(self.lengths > max_items))


def load_sequences(path: Path, n_items: int | None = None) -> Sequences:
    """Read sequences.parquet.

    Args:
        n_items: size of the catalogue; given, item numbers must be below it.

    Raises:
        UserError: the file is missing, unreadable or of the wrong schema; a user has fewer than three items; an
            item number is missing or out of range.
    """
    table = artifacts.read(path, "sequences", hint="Run `maskgr download` or `maskgr import` first.")
    lengths = pc.list_value_length(table.column("items")).to_numpy().astype(np.int64)
    if lengths.min() < SHORTEST:
        row, short = int(np.argmax(lengths < SHORTEST)), int(np.count_nonzero(lengths < SHORTEST))
        raise UserError(
            f"{path}: user {table.column('user_id')[row].as_py()!r} (row {row}) has {lengths[row]} item(s); leave-one-out needs "
            f"{SHORTEST} or more. Import the data again without the {short} user(s) that have fewer."
        )
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Sequences(_checked_items(path, table, offsets, n_items), offsets)


def gather(items: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> Sequences:
    """The pieces `items[starts[r]:starts[r] + lengths[r]]`, one a row."""
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    places = np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])
    return Sequences(items[places], offsets)


def _checked_items(path: Path, table: pa.Table, offsets: np.ndarray, n_items: int | None) -> np.ndarray:
    flat = pc.list_flatten(table.column("items"))
    items = pc.fill_null(flat, -1).to_numpy()
    wrong = items < 0 if n_items is None else (items < 0) | (items >= n_items)
    if wrong.any():
        place = int(np.argmax(wrong))
        row = int(np.searchsorted(offsets, place, side="right")) - 1
        found = flat[place].as_py()
        allowed = "0 or more" if n_items is None else f"0 to {n_items - 1}"
        raise UserError(
            f"{path}: column items holds {'no number' if found is None else found} in row {row}, expected {allowed}. "
            "It was made from other items: import or download the data set again."
        )
    return items
