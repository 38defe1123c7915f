"""Sequences in groups of rows that are read one at a time, from memory or from the row groups of files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pipelines.data.sequences import Sequences
from pipelines.data.splits import cold_items, training, without_items
from pipelines.processes import Processes


@dataclass(frozen=True, eq=False)
class Groups:
    """Sequences in groups of consecutive rows.

    Attributes:
        rows: number of sequences of each group, int64 [groups].
        read: function that returns the sequences of a group, given its number.
    """

    rows: np.ndarray
    read: Callable[[int], Sequences]

    @staticmethod
    def of(sequences: Sequences, rows: np.ndarray) -> Groups:
        """Return sequences in memory, cut into groups of so many rows, int64 [groups]."""
        ends = np.cumsum(rows)

        def read(group: int) -> Sequences:
            first, end = ends[group] - rows[group], ends[group]
            offsets = sequences.offsets[first : end + 1]
            bounds = None if sequences.bounds is None else sequences.bounds[first:end]
            items = sequences.items[offsets[0] : offsets[-1]]
            return Sequences(items, offsets - offsets[0], bounds=bounds)

        return Groups(rows, read)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def first_rows(self) -> np.ndarray:
        """Number of the first row of each group, int64 [groups]."""
        return np.cumsum(self.rows) - self.rows

    def mapped(self, change: Callable[[int, Sequences], Sequences]) -> Groups:
        """Return the groups with a change, which keeps the number of rows.

        Args:
            change: function of the number of a group and its sequences.
        """
        return Groups(self.rows, lambda group: change(group, self.read(group)))

    def measured(
        self, measure: Callable[[Sequences], tuple[int, ...]], width: int, processes: Processes
    ) -> np.ndarray:
        """Return numbers that describe each group, int64 [groups, width]; the processes share the groups.

        Args:
            measure: function that returns the numbers of a group.
            width: how many numbers it returns.
            processes: processes that share the work; each gets the whole.
        """
        result = np.zeros((len(self), width), np.int64)
        for group in range(processes.rank, len(self), processes.count):
            result[group] = measure(self.read(group))
        return processes.total(result)

    def item_counts(self, n_items: int, processes: Processes) -> np.ndarray:
        """Return how often each item occurs, int64 [N]; the processes share the groups.

        Args:
            n_items: N.
            processes: processes that share the work; each gets the whole.
        """
        counts = np.zeros(n_items, np.int64)
        for group in range(processes.rank, len(self), processes.count):
            counts += np.bincount(self.read(group).items, minlength=n_items)
        return processes.total(counts)


def training_groups(
    groups: Groups,
    n_items: int,
    horizon: int = 1,
    cold: float = 0.0,
    seed: int = 0,
    processes: Processes | None = None,
) -> Groups:
    """Return the training part of all sequences, see `splits.training`. `cold` takes a pass over all groups.

    Args:
        groups: sequences of all users.
        n_items: N.
        horizon, cold, seed: see `splits.training`.
        processes: processes that share the work.
    """
    whole = groups.mapped(lambda _, sequences: training(sequences, horizon))
    if not cold:
        return whole
    warm = np.flatnonzero(whole.item_counts(n_items, processes or Processes()))
    left_out = cold_items(warm, cold, seed)
    return whole.mapped(lambda _, sequences: without_items(sequences, left_out))
