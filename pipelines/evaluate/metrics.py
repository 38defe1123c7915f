"""Ranks of the targets, and what they average to: Recall@k, NDCG@k, invalid and duplicate beams.

Every metric is a mean over users of a number that depends on a small integer only (the target's rank, a count
of beams), so its bootstrap distribution follows exactly from multinomial draws of that integer's histogram.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from pipelines.errors import UserError
from pipelines.evaluate.protocol import Split

CUTOFFS = (5, 10, 20, 40)
RESAMPLES = 2000
CONFIDENCE = 0.95


def rank_targets(recommended: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Where the target stands among the recommended items.

    Args:
        recommended: item numbers, best first, int [B, K]; −1 for a beam that is no item, which keeps its place.
        targets: int [B].

    Returns:
        int32 [B]: 1 for the first place, 0 where the target is absent. Of repeated items the first place counts.
    """
    hits = (recommended == targets[:, None]) & (recommended >= 0)
    return np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, 0).astype(np.int32)


def ranks_table(split: Split, recommended: np.ndarray, invalid: np.ndarray, duplicates: np.ndarray) -> pa.Table:
    """One row per user: target, rank (null where absent), invalid and duplicate beams; an artifact of kind "ranks"."""
    ranks = rank_targets(recommended, split.targets)
    columns = {"user": split.users, "target": split.targets, "rank": ranks, "invalid": invalid, "duplicates": duplicates}
    return pa.table({n: pa.array(v, pa.int32(), mask=ranks == 0 if n == "rank" else None) for n, v in columns.items()})


def metrics_table(ranks: pa.Table, list_length: int, seed: int = 0) -> pa.Table:
    """Average the ranks of all users; an artifact of kind "metrics".

    There is one relevant item per user, so Recall@k is the share of users with rank ≤ k, and NDCG@k the mean of
    1 / log2(rank + 1) over ranks ≤ k (the ideal DCG is 1). `invalid_rate` and `duplicate_rate` are shares of all
    beams. Cut-offs above `list_length` are not defined and left out.

    Args:
        ranks: an artifact of kind "ranks".
        list_length: K, how many beams each user had.
        seed: of the bootstrap over users.

    Returns:
        metric, k (null for rates), value, low and high (95 % percentile interval), users; values are fractions.

    Raises:
        UserError: a rank or a count lies outside 0 … `list_length`.
    """
    rng = np.random.default_rng(seed)
    places = np.arange(list_length + 1)  # 0: absent
    discounts = np.where(places > 0, 1 / np.log2(np.maximum(places, 1) + 1), 0.0)
    within = {k: (places > 0) & (places <= k) for k in CUTOFFS if k <= list_length}
    by_rank = {("recall", k): mask.astype(float) for k, mask in within.items()} | {
        ("ndcg", k): discounts * mask for k, mask in within.items()
    }
    share = places / list_length
    rows = [
        *_means(_histogram(ranks, "rank", list_length), by_rank, rng),
        *_means(_histogram(ranks, "invalid", list_length), {("invalid_rate", None): share}, rng),
        *_means(_histogram(ranks, "duplicates", list_length), {("duplicate_rate", None): share}, rng),
    ]
    types = {"metric": pa.string(), "k": pa.int32(), "value": pa.float64(), "low": pa.float64(), "high": pa.float64()}
    columns = {name: pa.array(values, kind) for (name, kind), values in zip(types.items(), zip(*rows, strict=True), strict=True)}
    return pa.table({**columns, "users": pa.array([len(ranks)] * len(rows), pa.int64())})


def bootstrap_means(histogram: np.ndarray, gains: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Means over users under resampling users with replacement.

    Drawing B users from B users gives each histogram bin a multinomial count, so no user is drawn one by one.

    Args:
        histogram: users per bin, int [bins], B in sum.
        gains: what a user of each bin adds to each metric, float [bins, metrics].

    Returns:
        float [RESAMPLES, metrics].
    """
    users = histogram.sum()
    return rng.multinomial(users, histogram / users, size=RESAMPLES) @ gains / users


def _means(
    histogram: np.ndarray, gains: dict[tuple[str, int | None], np.ndarray], rng: np.random.Generator
) -> list[tuple[str, int | None, float, float, float]]:
    if not gains:
        return []
    matrix = np.stack(list(gains.values()), axis=1)  # [bins, metrics]
    tail = (1 - CONFIDENCE) / 2
    lows, highs = np.quantile(bootstrap_means(histogram, matrix, rng), [tail, 1 - tail], axis=0)
    values = histogram @ matrix / histogram.sum()
    return [(*name, *map(float, found)) for name, *found in zip(gains, values, lows, highs, strict=True)]


def _histogram(ranks: pa.Table, column: str, list_length: int) -> np.ndarray:
    values = ranks.column(column).fill_null(0).to_numpy()
    wrong = (values < 0) | (values > list_length)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise UserError(f"Ranks: column {column} holds {values[row]} in row {row}, but each user had {list_length} beams. Evaluate again.")
    return np.bincount(values, minlength=list_length + 1)
