"""Ranks of the targets, and what they average to: Recall@k, NDCG@k, invalid and duplicate beams.

Every metric is a mean over users of a number that depends on a few small integers only (the targets' ranks, a count
of beams), so its bootstrap distribution follows exactly from multinomial draws of their histogram.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from pipelines.artifacts import SCHEMAS
from pipelines.data.splits import Split
from pipelines.errors import UserError

CUTOFFS = (5, 10, 20, 40)
RESAMPLES = 2000
CONFIDENCE = 0.95
CELLS = 1 << 22  # resamples × bins drawn at once


def rank_targets(recommended: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Where the target stands among the recommended items.

    Args:
        recommended: item numbers, best first, int [B, K] or [B, K, k]; −1 for a beam that is no item, which keeps its place.
        targets: int [B] or [B, k].

    Returns:
        int32 like `first_target`: 1 for the first place, 0 where the target is absent. Of repeated items the first place counts.
    """
    hits = (recommended == targets[:, None]) & (recommended >= 0)
    return np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, 0).astype(np.int32)


def ranks_table(
    split: Split, recommended: np.ndarray, invalid: np.ndarray, duplicates: np.ndarray
) -> pa.Table:
    """One row per user and target: rank (null where absent), invalid and duplicate beams; an artifact of kind "ranks".

    Args:
        split: B users with k targets each.
        recommended: items of K beams, best first, int [B, K, k]; [B, K] where k = 1.
        invalid: beams of each user that are no item, int [B].
        duplicates: beams of each user that were struck out, int [B].
    """
    B, k = split.targets.shape
    ranks = rank_targets(recommended.reshape(B, -1, k), split.targets).ravel()
    by_user = {"user": split.users, "invalid": invalid, "duplicates": duplicates}
    columns = {name: np.repeat(values, k) for name, values in by_user.items()}
    columns |= {"position": np.tile(np.arange(k), B), "target": split.targets.ravel(), "rank": ranks}
    return pa.table(
        {
            n: pa.array(columns[n], pa.int32(), mask=ranks == 0 if n == "rank" else None)
            for n in SCHEMAS["ranks"]
        }
    )


def metrics_table(ranks: pa.Table, list_length: int, seed: int = 0) -> pa.Table:
    """Average the ranks of all users; an artifact of kind "metrics".

    There is one relevant item per user, so Recall@k is the share of users with rank ≤ k, and NDCG@k the mean of
    1 / log2(rank + 1) over ranks ≤ k (the ideal DCG is 1). Of several items ahead each has a ranking of its own, and a
    user's figure is the mean over them (the average session recall of section 4.4). `invalid_rate` and `duplicate_rate` are shares of all
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
    share = np.arange(list_length + 1) / list_length
    rows = [
        *_means(by_user(ranks, "rank", list_length), gains_by_rank(list_length), rng),
        *_means(by_user(ranks, "invalid", list_length)[:, :1], {("invalid_rate", None): share}, rng),
        *_means(by_user(ranks, "duplicates", list_length)[:, :1], {("duplicate_rate", None): share}, rng),
    ]
    users = len(ranks) // horizon_of(ranks)
    types = {
        "metric": pa.string(),
        "k": pa.int32(),
        "value": pa.float64(),
        "low": pa.float64(),
        "high": pa.float64(),
    }
    columns = {
        name: pa.array(values, kind)
        for (name, kind), values in zip(types.items(), zip(*rows, strict=True), strict=True)
    }
    return pa.table({**columns, "users": pa.array([users] * len(rows), pa.int64())})


def gains_by_rank(list_length: int) -> dict[tuple[str, int | None], np.ndarray]:
    """What a target at each rank adds to Recall@k and NDCG@k: (metric, k) → float [list_length + 1], rank 0 for an absent one."""
    places = np.arange(list_length + 1)
    discounts = np.where(places > 0, 1 / np.log2(np.maximum(places, 1) + 1), 0.0)
    within = {k: (places > 0) & (places <= k) for k in CUTOFFS if k <= list_length}
    recall = {("recall", k): mask.astype(float) for k, mask in within.items()}
    return recall | {("ndcg", k): discounts * mask for k, mask in within.items()}


def bootstrap_means(histogram: np.ndarray, gains: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Means over users under resampling users with replacement.

    Drawing B users from B users gives each histogram bin a multinomial count, so no user is drawn one by one.

    Args:
        histogram: users per bin, int [bins], B in sum.
        gains: what a user of each bin adds to each metric, float [bins, metrics].

    Returns:
        float [RESAMPLES, metrics].
    """
    users, step = histogram.sum(), max(1, CELLS // len(histogram))
    sizes = (min(step, RESAMPLES - start) for start in range(0, RESAMPLES, step))
    return (
        np.concatenate([rng.multinomial(users, histogram / users, size=size) @ gains for size in sizes])
        / users
    )


def bootstrap_interval(histogram: np.ndarray, gains: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """95 % percentile intervals of the means over users, float [2, metrics]; arguments as for `bootstrap_means`."""
    tail = (1 - CONFIDENCE) / 2
    return np.quantile(bootstrap_means(histogram, gains, rng), [tail, 1 - tail], axis=0)


def _means(
    values: np.ndarray, gains: dict[tuple[str, int | None], np.ndarray], rng: np.random.Generator
) -> list[tuple[str, int | None, float, float, float]]:
    """Each metric's mean and interval, of small integers [B, k] and what each of them adds to each metric, [list_length + 1]."""
    if not gains:
        return []
    bins, histogram = np.unique(values, axis=0, return_counts=True)  # [bins, k]
    matrix = np.stack([gain[bins].mean(axis=1) for gain in gains.values()], axis=1)  # [bins, metrics]
    lows, highs = bootstrap_interval(histogram, matrix, rng)
    means = histogram @ matrix / histogram.sum()
    return [(*name, *map(float, found)) for name, *found in zip(gains, means, lows, highs, strict=True)]


def horizon_of(ranks: pa.Table) -> int:
    """k, the targets of each user."""
    return int(ranks.column("position").to_numpy().max()) + 1


def by_user(ranks: pa.Table, column: str, list_length: int) -> np.ndarray:
    """A column of ranks or counts as int [B, k], 0 for null.

    Raises:
        UserError: a value lies outside 0 … `list_length`.
    """
    values = ranks.column(column).fill_null(0).to_numpy()
    wrong = (values < 0) | (values > list_length)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise UserError(
            f"Ranks: column {column} holds {values[row]} in row {row}, but each user had {list_length} beams. Evaluate again."
        )
    return values.reshape(-1, horizon_of(ranks))
