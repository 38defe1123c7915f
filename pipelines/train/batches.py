"""Which sequences make an optimiser step, and how a step is cut to fit the memory. Array operations only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipelines.data.sequences import Sequences, gather

KEPT = 3  # items that `drop_random_items` leaves of a sequence at least


def drop_random_items(sequences: Sequences, share: float, seed: int) -> Sequences:
    """Each sequence without a share of its items, drawn at random, but with three or all that it had (paper, section 4.3)."""
    lengths = sequences.lengths
    kept = np.maximum(np.minimum(lengths, KEPT), np.rint(lengths * (1 - share)).astype(np.int64))
    row = np.repeat(np.arange(len(sequences)), lengths)
    order = np.lexsort(
        (np.random.default_rng([seed, 2]).random(len(sequences.items)), row)
    )  # rows in turn, shuffled inside
    first = np.arange(len(order)) - sequences.offsets[row] < kept[row]
    places = np.sort(order[first])
    return Sequences(sequences.items[places], np.concatenate([[0], np.cumsum(kept)]))


@dataclass(frozen=True, eq=False)
class Windows(Sequences):
    """Windows of training sequences (the rows), and whose each is.

    Attributes:
        users: row of the training sequences, int64 [rows].
    """

    users: np.ndarray


@dataclass(frozen=True)
class Batches:
    """Steps over training sequences, the same whenever asked: step s is a function of the seed and s alone.

    A sequence longer than `max_items` is seen through windows of `max_items` consecutive items, as many as
    cover it once on average, drawn anew each epoch; so no interaction is cut off for good, unless `last` is asked for.

    Attributes:
        prefixes: each item but a sequence's first `horizon` ones ends a window of its own, of the `max_items` items up to it, instead.
        ahead: items k that are recommended at a time.
        last: the last `max_items` items of a sequence are its one window.
    """

    sequences: Sequences
    batch_size: int
    max_items: int
    seed: int
    prefixes: bool = False
    horizon: int = 1
    last: bool = False

    @property
    def windows(self) -> int:
        """Windows in an epoch."""
        return int(self._copies.sum())

    @property
    def steps_per_epoch(self) -> int:
        """Steps in an epoch; the last one may be smaller."""
        return -(-self.windows // self.batch_size)

    @property
    def _copies(self) -> np.ndarray:
        """How many windows each sequence has."""
        if self.prefixes:
            return np.maximum(self.sequences.lengths - self.horizon, 0)
        copies = -(-self.sequences.lengths // self.max_items)
        return np.minimum(copies, 1) if self.last else copies

    def epoch(self, number: int) -> Windows:
        """The windows of one epoch, shuffled."""
        rng = np.random.default_rng([self.seed, 0, number])
        rows, starts, lengths = self._prefixes(rng) if self.prefixes else self._pieces(rng)
        kept = gather(self.sequences.items, starts, lengths)
        return Windows(kept.items, kept.offsets, rows)

    def _pieces(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Whose each window is, where it starts and how long it is."""
        rows = rng.permutation(np.repeat(np.arange(len(self.sequences)), self._copies))
        spare = np.maximum(self.sequences.lengths - self.max_items, 0)[rows]
        starts = self.sequences.offsets[rows] + (
            spare if self.last else rng.integers(0, spare, endpoint=True)
        )
        return rows, starts, np.minimum(self.sequences.lengths, self.max_items)[rows]

    def _prefixes(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        copies, offsets = self._copies, self.sequences.offsets[:-1]
        rows = np.repeat(np.arange(len(copies)), copies)
        ends = (
            np.arange(len(rows)) - np.repeat(np.cumsum(copies) - copies, copies) + self.horizon + 1
        )  # items up to the end
        order = rng.permutation(len(rows))
        lengths = np.minimum(ends, self.max_items)
        return rows[order], (offsets[rows] + ends - lengths)[order], lengths[order]

    def steps(self, first: int) -> Iterator[tuple[int, Windows, np.ndarray]]:
        """From step `first` on without end: its number, the epoch's windows, the rows of the step."""
        epoch, place = divmod(first, self.steps_per_epoch)
        while True:
            windows = self.epoch(epoch)
            for step in range(place, self.steps_per_epoch):
                rows = np.arange(step * self.batch_size, min((step + 1) * self.batch_size, len(windows)))
                yield epoch * self.steps_per_epoch + step, windows, rows
            epoch, place = epoch + 1, 0


def cut(lengths: np.ndarray, micro_items: int) -> list[np.ndarray]:
    """Cut a step into forward passes of similar lengths and about equal work.

    Args:
        lengths: items of each sequence [B], none of them 0.
        micro_items: items in a pass; a pass may exceed it by part of one sequence.

    Returns:
        Indices into the step, longest sequences first; together they are 0 … B − 1.
    """
    order = np.argsort(-lengths, kind="stable")
    before = np.cumsum(lengths[order]) - lengths[order]
    passes = max(1, round(int(lengths.sum()) / micro_items))
    piece = before * passes // int(lengths.sum())
    return np.split(order, np.flatnonzero(np.diff(piece)) + 1)
