"""Leave-one-out: a user's last item tests, the second-to-last validates, the rest trains (paper, section 4.1).

Leave-k-out is the same with k items at a time (k = 2: section 4.4).

Sequences of many users lie in two flat arrays (compressed sparse rows); nothing here loops over users.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines import artifacts
from pipelines.errors import UserError

HELD_OUT = {"validation": 2, "test": 1}  # split → how many times k its first target lies from the end of the sequence
SHORTEST = 3  # one item to train on, one to validate with, one to test with


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


@dataclass(frozen=True, eq=False)
class Split(Sequences):
    """Histories (the rows) with the k items that followed each.

    Attributes:
        users: the user of each row, int32 [B].
        following: the items to be recommended, int32 [B, k].
        trained: the items that somebody took in training, in order; None where nobody asks.
    """

    users: np.ndarray
    following: np.ndarray
    trained: np.ndarray | None = None

    @property
    def targets(self) -> np.ndarray:
        """The item that followed first, int32 [B]."""
        return self.following[:, 0]

    @property
    def ahead(self) -> int:
        """k."""
        return self.following.shape[1]

    def sample(self, n: int, seed: int) -> Split:
        """`n` rows drawn without replacement, in their old order; the split itself where it has no more than `n`."""
        if n >= len(self):
            return self
        rows = np.sort(np.random.default_rng(seed).choice(len(self), n, replace=False))
        kept = gather(self.items, self.offsets[rows], self.lengths[rows])
        return Split(kept.items, kept.offsets, self.users[rows], self.following[rows], self.trained)


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


def training(sequences: Sequences, ahead: int = 1) -> Sequences:
    """All but each user's last 2·k items; row r is still user r.

    Raises:
        UserError: a user has no item left to train on.
    """
    return _without_last(sequences, max(HELD_OUT.values()) * ahead, ahead)


def histories(sequences: Sequences, split: str, ahead: int = 1) -> Split:
    """What comes before each user's targets, and the targets.

    Args:
        split: "validation" (targets: the k items before the last k) or "test" (targets: the last k items; the
            validation targets then are part of the history).
        ahead: k.

    Raises:
        UserError: there is no such split, or a user has fewer than 2·k + 1 items.
    """
    if split not in HELD_OUT:
        raise UserError(f"There is no split {split!r}; it can be {' or '.join(HELD_OUT)}.")
    kept = _without_last(sequences, HELD_OUT[split] * ahead, ahead)
    following = sequences.items[(sequences.offsets[:-1] + kept.lengths)[:, None] + np.arange(ahead)]  # [B, k]
    trained = np.unique(training(sequences, ahead).items)
    return Split(kept.items, kept.offsets, np.arange(len(sequences), dtype=np.int32), following, trained)


def _without_last(sequences: Sequences, back: int, ahead: int) -> Sequences:
    need = max(HELD_OUT.values()) * ahead + 1
    short = int(np.count_nonzero(sequences.lengths < need))
    if short:
        raise UserError(
            f"--next {ahead} needs {need} items of every user, and {short:,} users have fewer. "
            f"Lower it, or make the data set again with --min-count {need}."
        )
    return gather(sequences.items, sequences.offsets[:-1], sequences.lengths - back)


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
