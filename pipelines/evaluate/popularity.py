"""Popularity baseline: the most frequent items of the training sequences."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.data.held_out import HeldOut
from pipelines.data.splits import Split
from pipelines.evaluate.metrics import metrics_table, ranks_table

CELLS = 1 << 22  # entries of the mask of users × candidates held at once


def measure_popularity(
    counts: np.ndarray, users: Split | HeldOut, k: int, exclude_seen: bool, *, apart: bool = False
) -> pa.Table:
    """Measure the most popular items, the same at each position of the horizon.

    Args:
        users: histories and targets, in memory or in files.
        counts, k, exclude_seen: see `recommend_popular`.
        apart: if true, cold and warm targets are measured apart too.

    Returns:
        Artifact of kind "metrics".
    """
    return metrics_table(
        (popularity_ranks(counts, split, k, exclude_seen) for split in users.chunks()),
        k,
        warm_items=users.warm_items if apart else None,
    )


def popularity_ranks(counts: np.ndarray, split: Split, k: int, exclude_seen: bool) -> pa.Table:
    """Return the ranks of the most popular items, an artifact of kind "ranks"."""
    popular = recommend_popular(counts, split, k, exclude_seen)  # [B, K]
    none = np.zeros(len(split), np.int32)
    return ranks_table(split, np.repeat(popular[:, :, None], split.horizon, axis=2), none, none)


def recommend_popular(counts: np.ndarray, split: Split, k: int, exclude_seen: bool) -> NDArray[np.int32]:
    """Recommend the most frequent training items; items of equal frequency are ordered by their number.

    Args:
        counts: number of training interactions of each item, int64 [N].
        split: histories of the users.
        k: K, the number of recommended items of each user.
        exclude_seen: if true, items of the user's history are passed over, as `Decoding.exclude_seen` does
            for models.

    Returns:
        int32 [B, K], best first; −1 in the last places if fewer than K items are left for a user.
    """
    n_items = len(counts)
    order = np.argsort(-counts, kind="stable").astype(np.int32)  # [N], place → item
    if not exclude_seen:
        top = np.full(k, -1, dtype=np.int32)
        top[: min(k, n_items)] = order[:k]
        return np.tile(top, (len(split), 1))
    places = np.empty_like(order)
    places[order] = np.arange(n_items, dtype=np.int32)  # [N], item → place
    longest = int(split.lengths.max(initial=0))
    width = min(n_items, k + longest)  # number of candidates of which K are left after any history
    step = max(1, CELLS // width)
    recommended = np.full((len(split), k), -1, dtype=np.int32)
    for start in range(0, len(split), step):
        rows = slice(start, start + step)
        offsets = split.offsets[start : start + step + 1]
        users = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
        taken = places[split.items[offsets[0] : offsets[-1]]]
        seen = np.zeros((len(offsets) - 1, width), dtype=bool)  # [users, candidates]
        seen[users[taken < width], taken[taken < width]] = True
        first = np.argsort(seen, axis=1, kind="stable")[
            :, :k
        ]  # [users, K], unseen places first, by popularity
        items = np.where(np.take_along_axis(seen, first, axis=1), np.int32(-1), order[first])
        recommended[rows, : items.shape[1]] = items
    return recommended
