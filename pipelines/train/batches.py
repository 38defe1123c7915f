"""Training batches: the windows that each optimizer step trains on, and the forward passes of a step.

All operations are array operations; no function loops over users.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipelines.data.sequences import Sequences, gather

MIN_KEPT_ITEMS = 3  # `drop_random_items` leaves at least this many items of a sequence


def drop_random_items(sequences: Sequences, share: float, seed: int) -> Sequences:
    """Return the sequences without a random share of each sequence's items (paper, section 4.3).

    Every sequence keeps at least three items, or all its items if it has fewer than three. The remaining
    items keep their order.

    Args:
        share: share of items to drop, 0 to 1.
        seed: seed of the random choice.
    """
    lengths = sequences.lengths
    kept = np.maximum(np.minimum(lengths, MIN_KEPT_ITEMS), np.rint(lengths * (1 - share)).astype(np.int64))
    row = np.repeat(np.arange(len(sequences)), lengths)  # [total]
    # Row after row, the items of each row in random order.
    order = np.lexsort((np.random.default_rng([seed, 2]).random(len(sequences.items)), row))
    is_kept = np.arange(len(order)) - sequences.offsets[row] < kept[row]
    positions = np.sort(order[is_kept])
    return Sequences(sequences.items[positions], np.concatenate([[0], np.cumsum(kept)]))


@dataclass(frozen=True, eq=False)
class Windows(Sequences):
    """Windows of training sequences, one per row.

    Attributes:
        users: row of the training sequence that each window is taken from, int64 [rows].
    """

    users: np.ndarray


@dataclass(frozen=True)
class Batches:
    """Optimizer steps over training sequences. Step s is a function of the seed and s alone.

    By default, a sequence longer than `max_items` is trained on through windows of `max_items` consecutive
    items. Each epoch draws new windows, as many as cover the sequence once on average, so that every
    interaction is used eventually.

    Attributes:
        sequences: training sequences, none of them empty.
        batch_size: windows per optimizer step; the last step of an epoch may have fewer.
        max_items: largest number of items in a window.
        seed: seed of the windows and their order.
        prefixes: if true, every item after the first `horizon` items of a sequence ends a window of its own.
            The window holds that item and the items before it, at most `max_items` together.
        horizon: number of items k that are predicted together.
        last_only: if true, the only window of a sequence is its last `max_items` items.
    """

    sequences: Sequences
    batch_size: int
    max_items: int
    seed: int
    prefixes: bool = False
    horizon: int = 1
    last_only: bool = False

    @property
    def windows_per_epoch(self) -> int:
        """Number of windows in an epoch."""
        return int(self._windows_per_sequence.sum())

    @property
    def steps_per_epoch(self) -> int:
        """Number of optimizer steps in an epoch."""
        return -(-self.windows_per_epoch // self.batch_size)

    @property
    def _windows_per_sequence(self) -> np.ndarray:
        """Number of windows of each sequence in an epoch, int64 [rows]."""
        if self.prefixes:
            return np.maximum(self.sequences.lengths - self.horizon, 0)
        counts = -(-self.sequences.lengths // self.max_items)
        return np.minimum(counts, 1) if self.last_only else counts

    def epoch(self, number: int) -> Windows:
        """Return the windows of an epoch in random order."""
        rng = np.random.default_rng([self.seed, 0, number])
        rows, starts, lengths = self._prefix_windows(rng) if self.prefixes else self._windows(rng)
        pieces = gather(self.sequences.items, starts, lengths)
        return Windows(pieces.items, pieces.offsets, rows)

    def _windows(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return sequence, start and length of each window, int64 [windows] each."""
        rows = rng.permutation(np.repeat(np.arange(len(self.sequences)), self._windows_per_sequence))
        spare = np.maximum(self.sequences.lengths - self.max_items, 0)[rows]
        shifts = spare if self.last_only else rng.integers(0, spare, endpoint=True)
        starts = self.sequences.offsets[rows] + shifts
        return rows, starts, np.minimum(self.sequences.lengths, self.max_items)[rows]

    def _prefix_windows(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return sequence, start and length of each window, int64 [windows] each; for `prefixes`."""
        counts, offsets = self._windows_per_sequence, self.sequences.offsets[:-1]
        rows = np.repeat(np.arange(len(counts)), counts)
        first_windows = np.repeat(np.cumsum(counts) - counts, counts)  # first window of the same sequence
        # Number of items of the sequence up to the end of the window.
        ends = np.arange(len(rows)) - first_windows + self.horizon + 1
        order = rng.permutation(len(rows))
        lengths = np.minimum(ends, self.max_items)
        return rows[order], (offsets[rows] + ends - lengths)[order], lengths[order]

    def steps(self, first: int) -> Iterator[tuple[int, Windows, np.ndarray]]:
        """Yield the steps from step `first` on, without end.

        Yields:
            Number of the step, windows of its epoch, and rows of those windows that the step trains on.
        """
        epoch, first_of_epoch = divmod(first, self.steps_per_epoch)
        while True:
            windows = self.epoch(epoch)
            for step in range(first_of_epoch, self.steps_per_epoch):
                rows = np.arange(step * self.batch_size, min((step + 1) * self.batch_size, len(windows)))
                yield epoch * self.steps_per_epoch + step, windows, rows
            epoch, first_of_epoch = epoch + 1, 0


def split_step(lengths: np.ndarray, micro_items: int) -> list[np.ndarray]:
    """Split a step into forward passes of sequences with similar lengths and about equal numbers of items.

    Args:
        lengths: number of items of each sequence, int64 [B], none of them 0.
        micro_items: number of items in a forward pass; a pass may exceed it by a part of one sequence.

    Returns:
        Indices into the step for each forward pass, longest sequences first; together they are 0 … B − 1.
    """
    order = np.argsort(-lengths, kind="stable")
    items_before = np.cumsum(lengths[order]) - lengths[order]
    passes = max(1, round(int(lengths.sum()) / micro_items))
    pass_of = items_before * passes // int(lengths.sum())
    return np.split(order, np.flatnonzero(np.diff(pass_of)) + 1)
