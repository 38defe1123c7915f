"""Items without a vector of their own take the place of the items that they co-occur with in training.

Co-occurrences come from the training interactions alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipelines.data.sequences import Sequences, load_sequences
from pipelines.data.splits import training
from pipelines.progress import Progress
from pipelines.workspace import Dataset

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

WINDOW = 5  # largest distance of two items of a user that co-occur
# Beauty, validation, `--encoder interactions`: the next item is among the ten nearest neighbors of the last
# one for 7.9 % of the users with this window and weights 1 / distance, for 7.7 % with equal weights, and for
# 7.4 % with a window of 10.


def co_occurrences(sequences: Sequences, n_items: int) -> csr_matrix:
    """Count how often two items occur near each other in the same row, symmetric float64 [N, N].

    Two items at distance d, which is at most `WINDOW`, count 1 / d. An item does not co-occur with itself.

    Args:
        sequences: training interactions.
        n_items: N.
    """
    from scipy.sparse import coo_matrix

    rows = np.repeat(np.arange(len(sequences)), sequences.lengths)  # [total]
    items = sequences.items
    total = coo_matrix((n_items, n_items)).tocsr()
    for distance in range(1, WINDOW + 1):
        first, second = items[:-distance], items[distance:]
        near = (rows[:-distance] == rows[distance:]) & (first != second)  # [total − distance]
        weights = np.full(int(near.sum()), 1 / distance)
        total = total + coo_matrix((weights, (first[near], second[near])), shape=total.shape).tocsr()
    return (total + total.T).tocsr()


def training_co_occurrences(dataset: Dataset, n_items: int) -> csr_matrix:
    """Count the co-occurrences in a data set's training interactions, see `co_occurrences`.

    Raises:
        UserError: the sequences are missing, unreadable or of other items.
    """
    return co_occurrences(training(load_sequences(dataset.sequences, n_items)), n_items)


def place(
    counts: csr_matrix, values: np.ndarray, anchors: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, int]:
    """Return the mean vector of the anchors that each of some items co-occurs with, weighted by the counts.

    An item that co-occurs with no anchor takes the mean of all anchors.

    Args:
        counts: co-occurrences [N, N].
        values: vectors of the anchors, float32 [n, E].
        anchors: items that have a vector, int [n].
        rows: items that need a vector, int [r].

    Returns:
        float32 [r, E]; number of items that co-occur with no anchor.
    """
    near = counts[rows][:, anchors]  # [r, n]
    weight = np.asarray(near.sum(axis=1)).reshape(-1)  # [r]
    alone = weight == 0  # [r]
    means = (near @ values.astype(np.float64)) / np.where(alone, 1.0, weight)[:, None]  # [r, E]
    means[alone] = values.mean(axis=0, dtype=np.float64)
    return means.astype(np.float32), int(alone.sum())


def place_missing(
    dataset: Dataset, values: np.ndarray, anchors: np.ndarray, rows: np.ndarray, progress: Progress
) -> np.ndarray:
    """Return the place of items without a vector among those that they co-occur with, and report it.

    Args:
        dataset: data set of the sequences.
        values: vectors of all items, float [N, E], arbitrary for items without one.
        anchors: true for items that have a vector from which others may take theirs, bool [N].
        rows: items without a vector, int64 [r].

    Returns:
        float32 [r, E].

    Raises:
        UserError: there are such items, and the sequences are missing, unreadable or of other items.
    """
    if not len(rows):
        return np.zeros((0, values.shape[1]), np.float32)
    known = np.flatnonzero(anchors)  # [n]
    counts = training_co_occurrences(dataset, len(values))
    means, alone = place(counts, values[known].astype(np.float32), known, rows)
    others = f"; {alone:,} of them co-occur with none and take the mean of all" if alone else ""
    progress.say(
        f"{len(rows):,} of {len(values):,} items have no vector of their own and take the mean of the items "
        f"that they co-occur with in training{others}."
    )
    return means
