"""Item sequences of many users in two flat arrays (compressed sparse rows).

No function here loops over users.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines import artifacts
from pipelines.errors import UserError

SHORTEST = 3  # items of a user: one for training, one for validation, one for testing


@dataclass(frozen=True, eq=False)
class Sequences:
    """Item sequences in order of time. Row r is `items[offsets[r]:offsets[r + 1]]`.

    Attributes:
        items: item numbers of all rows, int32 [total].
        offsets: begin of each row in `items`, and the total at the end, int64 [rows + 1].
    """

    items: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Number of items of each row, int64 [rows]."""
        return np.diff(self.offsets)

    def padded(self, rows: np.ndarray, max_items: int) -> np.ndarray:
        """Return the most recent `max_items` items of the given rows, padded on the left with −1.

        Args:
            rows: row numbers, int [B].

        Returns:
            int32 [B, L], where L is the length of the longest of these rows, but at most `max_items`.
        """
        starts, ends = self.offsets[rows], self.offsets[np.asarray(rows) + 1]  # [B], [B]
        length = min(max_items, int((ends - starts).max(initial=0)))
        places = ends[:, None] + np.arange(-length, 0)  # [B, L]
        inside = places >= starts[:, None]  # [B, L]
        return np.where(inside, self.items[np.where(inside, places, 0)], np.int32(-1))

    def contains(self, items: np.ndarray) -> np.ndarray:
        """Return True for each item that occurs in its row, and False for negative ones, bool [rows, K].

        Args:
            items: item numbers, int [rows, K].
        """
        size = 1 + max(self.items.max(initial=0), items.max(initial=0))
        numbers = np.arange(len(self), dtype=np.int64)  # [rows]
        pairs = np.where(
            items >= 0, numbers[:, None] * size + items, -1
        )  # [rows, K], row and item as one number
        return np.isin(pairs, np.repeat(numbers, self.lengths) * size + self.items)

    def truncated(self, max_items: int) -> int:
        """Return the number of rows with more than `max_items` items, which `padded` truncates."""
        return int(np.count_nonzero(self.lengths > max_items))


def load_sequences(path: Path, n_items: int | None = None) -> Sequences:
    """Read sequences.parquet.

    Args:
        n_items: N; if it is given, item numbers must be below it.

    Raises:
        UserError: the file is missing, unreadable or does not match its schema; a user has fewer than three
            items; an item number is missing or out of range.
    """
    table = artifacts.read(path, "sequences", hint="Run `maskgr download` or `maskgr import` first.")
    lengths = pc.list_value_length(table.column("items")).to_numpy().astype(np.int64)  # [rows]
    short = lengths < SHORTEST  # [rows]
    if short.any():
        row = int(np.argmax(short))
        user = table.column("user_id")[row].as_py()
        raise UserError(
            f"{path}: user {user!r} (row {row}) has {lengths[row]} item(s); "
            f"leave-one-out needs {SHORTEST} or more. "
            f"Import the data again without the {np.count_nonzero(short)} user(s) that have fewer."
        )
    offsets = np.concatenate([[0], np.cumsum(lengths)])  # [rows + 1]
    return Sequences(_checked_items(path, table, offsets, n_items), offsets)


def gather(items: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> Sequences:
    """Return the slices `items[starts[r]:starts[r] + lengths[r]]`, one a row.

    Args:
        items: int32 [total].
        starts: int64 [rows].
        lengths: int64 [rows].
    """
    offsets = np.concatenate([[0], np.cumsum(lengths)])  # [rows + 1]
    places = np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])
    return Sequences(items[places], offsets)


def _checked_items(path: Path, table: pa.Table, offsets: np.ndarray, n_items: int | None) -> np.ndarray:
    """Return the item numbers of all rows, int32 [total].

    Raises:
        UserError: an item number is missing or out of range.
    """
    flat = pc.list_flatten(table.column("items"))
    items: np.ndarray = pc.fill_null(flat, -1).to_numpy()
    wrong = items < 0 if n_items is None else (items < 0) | (items >= n_items)
    if wrong.any():
        place = int(np.argmax(wrong))
        row = int(np.searchsorted(offsets, place, side="right")) - 1
        value = flat[place].as_py()
        allowed = "0 or more" if n_items is None else f"0 to {n_items - 1}"
        raise UserError(
            f"{path}: column items holds {'no number' if value is None else value} in row {row}, expected "
            f"{allowed}. "
            "It was made from other items: import or download the data set again."
        )
    return items
