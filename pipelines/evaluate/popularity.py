"""The reference row: recommend what most people took."""

from __future__ import annotations

import numpy as np

from pipelines.data.sequences import Sequences
from pipelines.data.splits import Split

CELLS = 1 << 22  # of the user × candidate mask held at once


def recommend_popular(
    training: Sequences, split: Split, n_items: int, k: int, exclude_seen: bool
) -> np.ndarray:
    """The most frequent training items; items of equal count follow their number.

    Args:
        training: the training part, which alone is counted.
        split: the users' histories.
        n_items: N.
        k: K, items per user.
        unseen: pass over items of the user's own history, as `Decoding.exclude_seen` does for the models.

    Returns:
        int32 [B, K], best first; −1 in the last places where a user has had all but fewer than K items.
    """
    counts = np.bincount(training.items, minlength=n_items)
    order = np.argsort(-counts, kind="stable").astype(np.int32)  # place → item
    if not exclude_seen:
        top = np.full(k, -1, dtype=np.int32)
        top[: min(k, n_items)] = order[:k]
        return np.tile(top, (len(split), 1))
    places = np.empty_like(order)
    places[order] = np.arange(n_items, dtype=np.int32)  # item → place
    longest = int(split.lengths.max(initial=0))
    width = min(n_items, k + longest)  # so many candidates leave K after any history
    step = max(1, CELLS // width)
    recommended = np.full((len(split), k), -1, dtype=np.int32)
    for start in range(0, len(split), step):
        rows = slice(start, start + step)
        offsets = split.offsets[start : start + step + 1]
        owner = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
        taken = places[split.items[offsets[0] : offsets[-1]]]
        seen = np.zeros((len(offsets) - 1, width), dtype=bool)
        seen[owner[taken < width], taken[taken < width]] = True
        first = np.argsort(seen, axis=1, kind="stable")[:, :k]  # unseen places first, in order of popularity
        picked = np.where(np.take_along_axis(seen, first, axis=1), np.int32(-1), order[first])
        recommended[rows, : picked.shape[1]] = picked
    return recommended
