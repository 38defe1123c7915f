"""The most popular items among those that qualify, for histories without a known item."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.data.sequences import Sequences, load_sequences
from pipelines.workspace import Dataset


@dataclass(frozen=True, eq=False)
class Popularity:
    """Numbers of interactions of the items.

    Attributes:
        counts: int64 [N].
        order: items with most interactions first, of equal ones the lower numbers, int64 [N].
    """

    counts: np.ndarray
    order: np.ndarray

    @staticmethod
    def of(sequences: Sequences, items: int) -> Popularity:
        """Count the interactions of so many items."""
        return Popularity.of_counts(np.bincount(sequences.items, minlength=items))

    @staticmethod
    def of_counts(counts: np.ndarray) -> Popularity:
        """Order items by their numbers of interactions, int64 [N]."""
        return Popularity(counts, np.argsort(-counts, kind="stable"))

    @staticmethod
    def of_dataset(dataset: Dataset, items: int) -> Popularity:
        """Count the interactions of the items of a data set.

        Raises:
            UserError: the sequences cannot be read.
        """
        return Popularity.of(load_sequences(dataset.sequences, items), items)

    def best(self, k: int, qualifying: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Return the k items with most interactions among those that qualify, and these numbers.

        Args:
            k: number of items.
            qualifying: items that qualify, ascending; None for all.

        Returns:
            int64 [≤ k], int64 [≤ k].
        """
        order = self.order
        if qualifying is not None:
            keeps = np.zeros(len(self.counts), bool)
            keeps[qualifying] = True
            order = order[keeps[order]]
        return order[:k], self.counts[order[:k]]
