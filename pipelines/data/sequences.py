"""Item sequences of many users in two flat arrays (compressed sparse rows).

No function here loops over users.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines import artifacts
from pipelines.data.listing import ItemNumbers, is_listing, read_listing
from pipelines.errors import UserError, reading
from pipelines.temporal import bounds, is_temporal

HINT = "Run `maskgr download` or `maskgr import` first."
AGAIN = "Remove it and make it again."
SHORTEST = 3  # items of a user for leave-one-out: one for training, one for validation, one for testing


@dataclass(frozen=True, eq=False)
class Sequences:
    """Item sequences in order of time. Row r is `items[offsets[r]:offsets[r + 1]]`.

    Attributes:
        items: item numbers of all rows, int32 [total].
        offsets: begin of each row in `items`, and the total at the end, int64 [rows + 1].
        bounds: of whole sequences with a temporal split: the number of training items, the place of the
            target of the validation and that of the test, −1 for none; int64 [rows, 3]. None for
            leave-one-out, and for parts of sequences.
    """

    items: np.ndarray
    offsets: np.ndarray
    bounds: np.ndarray | None = field(default=None, kw_only=True)

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
    """Read all sequences of a data set into memory.

    Args:
        path: sequences.parquet of the data set, which holds the sequences or lists the files that do.
        n_items: N; if it is given, item numbers must be below it.

    Raises:
        UserError: a file is missing, unreadable or does not match its schema; a user has too few items for
            the split; an item number is missing or out of range.
    """
    if not is_listing(path):
        table = artifacts.read(path, "sequences", hint=HINT)
        split = table if is_temporal(table.column_names) else None
        return sequences_of(path, table.column("items"), n_items, users=table.column("user_id"), split=split)
    listing, parts, first = read_listing(path), list[Sequences](), 0
    for file in listing.files:
        with reading(file, "Parquet file", AGAIN):
            table = pq.read_table(file, columns=[listing.items], partitioning=None)
        lists = table.column(listing.items)
        parts.append(sequences_of(file, lists, n_items, first=first, numbers=listing.numbers))
        first += len(table)
    offsets = np.concatenate([[0], np.cumsum(np.concatenate([part.lengths for part in parts]))])
    return Sequences(np.concatenate([part.items for part in parts]), offsets)


def sequences_of(
    path: Path,
    lists: pa.ChunkedArray,
    n_items: int | None,
    *,
    first: int = 0,
    numbers: ItemNumbers | None = None,
    users: pa.ChunkedArray | None = None,
    split: pa.Table | None = None,
) -> Sequences:
    """Return the sequences of consecutive users.

    Args:
        path: their file, for messages.
        lists: items of each user.
        n_items: N; if it is given, item numbers must be below it.
        first: number of the first user, for messages.
        numbers: item numbers by ids; None where the lists hold item numbers.
        users: ids of the users, for messages.
        split: columns of a temporal split (`temporal.COLUMNS`); None for leave-one-out.

    Raises:
        UserError: a user has fewer than three items with a leave-one-out split; an item is missing, out of
            range or unknown; the columns of the split do not fit.
    """
    lengths = pc.list_value_length(lists).fill_null(0).to_numpy().astype(np.int64)  # [rows]
    of_split = None if split is None else bounds(path, split, lengths, first)
    short = lengths < (SHORTEST if split is None else 1)  # [rows]
    if short.any():
        row = int(np.argmax(short))
        named = f"user {users[row].as_py()!r} (row {row})" if users is not None else f"row {first + row}"
        raise UserError(
            f"{path}: {named} has {lengths[row]} item(s); "
            f"{f'leave-one-out needs {SHORTEST}' if split is None else 'a sequence has one'} or more. "
            f"Import the data again without the {np.count_nonzero(short)} user(s) that have fewer."
        )
    offsets = np.concatenate([[0], np.cumsum(lengths)])  # [rows + 1]
    flat = pc.list_flatten(lists)
    if numbers is None:
        items: np.ndarray = pc.fill_null(flat, -1).to_numpy()
    else:
        items = np.concatenate([np.zeros(0, np.int32), *(numbers.of(chunk) for chunk in flat.chunks)])
    wrong = items < 0 if n_items is None else (items < 0) | (items >= n_items)
    if wrong.any():
        place = int(np.argmax(wrong))
        row = first + int(np.searchsorted(offsets, place, side="right")) - 1
        raise UserError(f"{path}: {_unusable(flat[place].as_py(), row, n_items, numbers)}")
    return Sequences(items, offsets, bounds=of_split)


def _unusable(value: object, row: int, n_items: int | None, numbers: ItemNumbers | None) -> str:
    """Return the message about an entry of a list that is no item."""
    if numbers is not None:
        return (
            f"row {row} holds {value!r}, which is no item of the data set. Add it to the file of --items and "
            "import again."
        )
    allowed = "0 or more" if n_items is None else f"0 to {n_items - 1}"
    return (
        f"column items holds {'no number' if value is None else value} in row {row}, expected {allowed}. "
        "It was made from other items: import or download the data set again."
    )


def gather(items: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> Sequences:
    """Return the slices `items[starts[r]:starts[r] + lengths[r]]`, one a row.

    Args:
        items: int32 [total].
        starts: int64 [rows].
        lengths: int64 [rows].
    """
    offsets = np.concatenate([[0], np.cumsum(lengths)])  # [rows + 1]
    return Sequences(items[places_of(starts, lengths)], offsets)


def places_of(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return the indices that the slices of `gather` take, int64 [total]."""
    ends = np.cumsum(lengths)
    return np.repeat(starts - (ends - lengths), lengths) + np.arange(ends[-1] if len(ends) else 0)
