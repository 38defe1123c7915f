"""Training batches: the windows that each optimizer step trains on, and the forward passes of a step.

All operations are array operations; no function loops over users.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipelines.data.groups import Groups
from pipelines.data.sequences import Sequences, gather, places_of
from pipelines.data.stored import CHUNK
from pipelines.models import time_prototype
from pipelines.models.objectives.soft_targets import SoftTargets

MIN_KEPT_ITEMS = 3  # `drop_random_items` leaves at least this many items of a sequence


def drop_random_items(sequences: Sequences, share: float, seed: int, first: int = 0) -> Sequences:
    """Return the sequences without a random share of each sequence's items (paper, section 4.3).

    Every sequence keeps at least three items, or all its items if it has fewer than three. The remaining
    items keep their order.

    Args:
        share: share of items to drop, 0 to 1.
        seed: seed of the random choice.
        first: number of items of the sequences before, whose draws are passed over.
    """
    places, kept = kept_places(sequences.lengths, share, seed, first)
    return Sequences(sequences.items[places], np.concatenate([[0], np.cumsum(kept)]))


def kept_places(
    lengths: np.ndarray, share: float, seed: int, first: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return the places of the items that `drop_random_items` keeps, int64, ascending; and their number in
    each sequence, int64 [rows].

    Args:
        lengths: number of items of each sequence, int64 [rows].
        share, seed, first: see `drop_random_items`.
    """
    kept = np.maximum(np.minimum(lengths, MIN_KEPT_ITEMS), np.rint(lengths * (1 - share)).astype(np.int64))
    row = np.repeat(np.arange(len(lengths)), lengths)  # [total]
    # Row after row, the items of each row in random order.
    generator = np.random.PCG64([seed, 2]).advance(first)  # of the bit generators, one with random access
    order = np.lexsort((np.random.Generator(generator).random(len(row)), row))
    is_kept = np.arange(len(order)) - (np.cumsum(lengths) - lengths)[row] < kept[row]
    return np.sort(order[is_kept]), kept


@dataclass(frozen=True, eq=False)
class Windows(Sequences):
    """Windows of training sequences, one per row.

    Attributes:
        users: row of the training sequence that each window is taken from, int64 [rows].
        soft: soft targets of the windows' items, `places` int64 [total]; None without teachers.
    """

    users: np.ndarray
    soft: SoftTargets | None = None
    places: np.ndarray | None = None  # in the whole sequences (time_prototype)


@dataclass(frozen=True)
class Cut:
    """Rule by which training sequences are cut into windows.

    By default, a sequence longer than `max_items` is trained on through windows of `max_items` consecutive
    items. Each epoch draws new windows, as many as cover the sequence once on average, so that every
    interaction is used eventually.

    Attributes:
        max_items: largest number of items in a window.
        prefixes: if true, every item after the first `horizon` items of a sequence ends a window of its own.
            The window holds that item and the items before it, at most `max_items` together.
        horizon: number of items k that are predicted together.
        last_only: if true, the only window of a sequence is its last `max_items` items.
    """

    max_items: int
    prefixes: bool = False
    horizon: int = 1
    last_only: bool = False

    def counts(self, lengths: np.ndarray) -> np.ndarray:
        """Return the number of windows of each sequence in an epoch, int64 [rows].

        Args:
            lengths: number of items of each sequence, int64 [rows].
        """
        if self.prefixes:
            return np.maximum(lengths - self.horizon, 0)
        counts = -(-lengths // self.max_items)
        return np.minimum(counts, 1) if self.last_only else counts

    def draw(
        self, lengths: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draw the windows of sequences that lie one after another, in random order.

        Args:
            lengths: number of items of each sequence, int64 [rows].
            rng: random generator.

        Returns:
            Sequence, start and length of each window, int64 [windows] each.
        """
        return self._prefixes(lengths, rng) if self.prefixes else self._windows(lengths, rng)

    def _windows(
        self, lengths: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rows = rng.permutation(np.repeat(np.arange(len(lengths)), self.counts(lengths)))
        spare = np.maximum(lengths - self.max_items, 0)[rows]
        shifts = spare if self.last_only else rng.integers(0, spare, endpoint=True)
        starts = (np.cumsum(lengths) - lengths)[rows] + shifts
        return rows, starts, np.minimum(lengths, self.max_items)[rows]

    def _prefixes(
        self, lengths: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        counts, offsets = self.counts(lengths), np.cumsum(lengths) - lengths
        rows = np.repeat(np.arange(len(counts)), counts)
        first_windows = np.repeat(np.cumsum(counts) - counts, counts)  # first window of the same sequence
        # Number of items of the sequence up to the end of the window.
        ends = np.arange(len(rows)) - first_windows + self.horizon + 1
        order = rng.permutation(len(rows))
        sizes = np.minimum(ends, self.max_items)
        return rows[order], (offsets[rows] + ends - sizes)[order], sizes[order]


@dataclass(frozen=True)
class Batches:
    """Optimizer steps over training sequences in memory. Step s is a function of the seed and s alone.

    Attributes:
        sequences: training sequences, none of them empty.
        batch_size: windows per optimizer step; the last step of an epoch may have fewer.
        max_items, prefixes, horizon, last_only: rule by which sequences are cut, see `Cut`.
        seed: seed of the windows and their order.
        soft: soft targets of the sequences' items, `places` int64 [total]; None without teachers.
    """

    sequences: Sequences
    batch_size: int
    max_items: int
    seed: int
    prefixes: bool = False
    horizon: int = 1
    last_only: bool = False
    soft: SoftTargets | None = None

    @property
    def cut(self) -> Cut:
        """Rule by which the sequences are cut into windows."""
        return Cut(self.max_items, self.prefixes, self.horizon, self.last_only)

    @property
    def groups(self) -> Groups:
        """The sequences in groups of `CHUNK`."""
        rows = len(self.sequences)
        return Groups.of(self.sequences, np.diff(np.append(np.arange(0, rows, CHUNK), rows)))

    @property
    def users(self) -> int:
        """Number of sequences."""
        return len(self.sequences)

    @property
    def truncated(self) -> int:
        """Number of sequences that are longer than a window."""
        return self.sequences.truncated(self.max_items)

    @property
    def window_lengths(self) -> np.ndarray:
        """Number of items of the longest window of each sequence, int64 [rows]."""
        return self.sequences.lengths.clip(max=self.max_items)

    @property
    def windows_per_epoch(self) -> int:
        """Number of windows in an epoch."""
        return int(self.cut.counts(self.sequences.lengths).sum())

    @property
    def steps_per_epoch(self) -> int:
        """Number of optimizer steps in an epoch."""
        return -(-self.windows_per_epoch // self.batch_size)

    def epoch(self, number: int) -> Windows:
        """Return the windows of an epoch in random order."""
        rng = np.random.default_rng([self.seed, 0, number])
        rows, starts, lengths = self.cut.draw(self.sequences.lengths, rng)
        pieces = gather(self.sequences.items, starts, lengths)
        soft = self.soft and self.soft.at(self.soft.places[places_of(starts, lengths)])
        places = None
        if time_prototype.VARIANT:
            begins = time_prototype.table()[0][rows] + starts - self.sequences.offsets[rows]
            places = places_of(begins, lengths)
        return Windows(pieces.items, pieces.offsets, rows, soft, places)

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
