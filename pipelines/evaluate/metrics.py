"""Ranks of the targets and the metrics computed from them: Recall@k, NDCG@k, invalid and duplicate rate.

Every metric is a mean over users of a number that depends only on a few small integers: the ranks of the
targets, or a count of beams. Its bootstrap distribution therefore follows exactly from multinomial draws of
their histogram.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.artifacts import SCHEMAS
from pipelines.data.splits import Split
from pipelines.errors import UserError
from pipelines.evaluate.config import CUTOFFS

MetricKey = tuple[str, int | None]  # name and cut-off k; None for a rate
Histogram = tuple[NDArray[np.int32], NDArray[np.int64]]  # bins [bins, k], users in each [bins]
RESAMPLES = 2000
CONFIDENCE = 0.95
CELLS = 1 << 22  # resamples × bins drawn at once


def rank_targets(recommended: np.ndarray, targets: np.ndarray) -> NDArray[np.int32]:
    """Return the rank of each target among the recommended items.

    Args:
        recommended: item numbers, best first, int [B, K] or [B, K, k]; −1 for an invalid beam, which keeps
            its rank.
        targets: item numbers, int [B] or [B, k].

    Returns:
        int32 with the shape of `targets`: 1 for the first rank, 0 if the target is absent. The first of
        repeated items counts.
    """
    hits = (recommended == targets[:, None]) & (recommended >= 0)
    return np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, 0).astype(np.int32)


def ranks_table(
    split: Split, recommended: np.ndarray, invalid: np.ndarray, duplicates: np.ndarray
) -> pa.Table:
    """Return an artifact of kind "ranks": a row for each user and target; the rank of an absent target is
    null.

    Args:
        split: b users with k targets each.
        recommended: items of K beams, best first, int [B, K, k]; also [B, K] if k = 1.
        invalid: number of each user's invalid beams, int [B].
        duplicates: number of each user's removed duplicates, int [B].
    """
    B, k = split.targets.shape
    ranks = rank_targets(recommended.reshape(B, -1, k), split.targets).ravel()  # [B · k]
    by_user = {"user": split.users, "invalid": invalid, "duplicates": duplicates}
    columns = {name: np.repeat(values, k) for name, values in by_user.items()}
    columns |= {"position": np.tile(np.arange(k), B), "target": split.targets.ravel(), "rank": ranks}
    masks = {"rank": ranks == 0}
    return pa.table(
        {name: pa.array(columns[name], pa.int32(), mask=masks.get(name)) for name in SCHEMAS["ranks"]}
    )


def metrics_table(
    ranks: pa.Table | Iterable[pa.Table],
    list_length: int,
    seed: int = 0,
    warm_items: np.ndarray | None = None,
) -> pa.Table:
    """Return an artifact of kind "metrics": the means of all metrics over the users.

    There is one relevant item. Recall@k is therefore the share of users with rank ≤ k, and NDCG@k is the mean
    of 1 / log2(rank + 1) over ranks ≤ k, because the ideal DCG is 1. With a horizon of several items, each
    position has a ranking of its own, and the value of a user is the mean over the positions (the average
    session recall of section 4.4). `invalid_rate` and `duplicate_rate` are shares of all beams. Cut-offs
    above `list_length` are left out.

    Args:
        ranks: artifact of kind "ranks", whole or in parts with one user or more each.
        list_length: K, the number of beams of each user.
        seed: seed of the bootstrap over users.
        warm_items: sorted items with a training interaction. If they are given, the Recall and NDCG of cold
            targets and of warm targets follow, over their own users: cold_recall, warm_recall, and so on.

    Returns:
        Columns metric, k (null for rates), value, low and high (95 % percentile interval), users; values are
        fractions.

    Raises:
        UserError: a rank or a count lies outside 0 … `list_length`.
    """
    rng = np.random.default_rng(seed)
    share = np.arange(list_length + 1) / list_length
    gains = gains_by_rank(list_length)
    histograms = _histograms([ranks] if isinstance(ranks, pa.Table) else ranks, list_length, warm_items)
    rows = [
        *_means(histograms["rank"], gains, rng),
        *_means(histograms["invalid"], {("invalid_rate", None): share}, rng),
        *_means(histograms["duplicates"], {("duplicate_rate", None): share}, rng),
    ]
    table = _metrics(rows, int(histograms["rank"][1].sum()))
    apart = [
        _metrics(
            _means(
                histograms[name], {(f"{name}_{metric}", k): gain for (metric, k), gain in gains.items()}, rng
            ),
            int(histograms[name][1].sum()),
        )
        for name in ("cold", "warm")
        if name in histograms
    ]
    return pa.concat_tables([table, *apart])


def _histograms(
    tables: Iterable[pa.Table], list_length: int, warm_items: np.ndarray | None
) -> dict[str, Histogram]:
    """Count the users by the ranks of their targets, by invalid beams, and by duplicates.

    With `warm_items`, the targets are counted by their ranks too: "cold" and "warm", where there are any.
    """
    parts: dict[str, list[Histogram]] = {}
    for table in tables:
        ranks = by_user(table, "rank", list_length)  # [B, k]
        values = {"rank": ranks} | {
            name: by_user(table, name, list_length)[:, :1] for name in ("invalid", "duplicates")
        }
        if warm_items is not None:
            is_warm = np.isin(table.column("target").to_numpy(), warm_items)
            values |= {"cold": ranks.reshape(-1, 1)[~is_warm], "warm": ranks.reshape(-1, 1)[is_warm]}
        for name, rows in values.items():
            if len(rows):
                parts.setdefault(name, []).append(np.unique(rows, axis=0, return_counts=True))
    return {name: _joined(counted) for name, counted in parts.items()}


def _joined(parts: list[Histogram]) -> Histogram:
    """Add histograms."""
    bins, place = np.unique(np.concatenate([bins for bins, _ in parts]), axis=0, return_inverse=True)
    weights = np.concatenate([counts for _, counts in parts])
    return bins, np.bincount(place.ravel(), weights).astype(np.int64)


def _metrics(rows: list[tuple[str, int | None, float, float, float]], users: int) -> pa.Table:
    """Return rows of name, k, mean, lower and upper bound as an artifact of kind "metrics"."""
    names = ("metric", "k", "value", "low", "high")
    columns = {
        name: pa.array([row[place] for row in rows], SCHEMAS["metrics"][name])
        for place, name in enumerate(names)
    }
    return pa.table({**columns, "users": pa.array([users] * len(rows), pa.int64())})


def gains_by_rank(list_length: int) -> dict[MetricKey, NDArray[np.float64]]:
    """Return the contribution of a target to Recall@k and NDCG@k, by its rank.

    Returns:
        Mapping from metric and k to float64 [list_length + 1]; index 0 stands for an absent target.
    """
    ranks = np.arange(list_length + 1)
    discounts = np.where(ranks > 0, 1 / np.log2(np.maximum(ranks, 1) + 1), 0.0)
    hits = {k: (ranks > 0) & (ranks <= k) for k in CUTOFFS if k <= list_length}
    gains: dict[MetricKey, NDArray[np.float64]] = {
        ("recall", k): hit.astype(float) for k, hit in hits.items()
    }
    return gains | {("ndcg", k): discounts * hit for k, hit in hits.items()}


def bootstrap_means(
    histogram: np.ndarray, gains: np.ndarray, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return means over users that are resampled with replacement.

    If B of B users are drawn, the counts of the histogram's bins have a multinomial distribution. No user is
    drawn separately.

    Args:
        histogram: number of users in each bin, int [bins]; the sum is B.
        gains: contribution of a user in each bin to each metric, float [bins, metrics].
        rng: random generator.

    Returns:
        float64 [RESAMPLES, metrics].
    """
    users, step = histogram.sum(), max(1, CELLS // len(histogram))
    sizes = (min(step, RESAMPLES - start) for start in range(0, RESAMPLES, step))
    sums = [rng.multinomial(users, histogram / users, size=size) @ gains for size in sizes]
    return np.concatenate(sums) / users


def bootstrap_interval(
    histogram: np.ndarray, gains: np.ndarray, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return 95 % percentile intervals of the means over users, float64 [2, metrics].

    See `bootstrap_means` for the arguments.
    """
    tail = (1 - CONFIDENCE) / 2
    return np.quantile(bootstrap_means(histogram, gains, rng), [tail, 1 - tail], axis=0)


def _means(
    counted: Histogram, gains: dict[MetricKey, NDArray[np.float64]], rng: np.random.Generator
) -> list[tuple[str, int | None, float, float, float]]:
    """Return name, k, mean, lower and upper bound of each metric.

    Args:
        counted: ranks or counts of the users, and how many users have them.
        gains: contribution of a value to each metric, float [list_length + 1].
        rng: random generator.
    """
    if not gains:
        return []
    bins, histogram = counted
    matrix = np.stack([gain[bins].mean(axis=1) for gain in gains.values()], axis=1)  # [bins, metrics]
    lows, highs = bootstrap_interval(histogram, matrix, rng)
    means = histogram @ matrix / histogram.sum()
    return [
        (name, k, float(mean), float(low), float(high))
        for (name, k), mean, low, high in zip(gains, means, lows, highs, strict=True)
    ]


def targets_per_user(ranks: pa.Table) -> int:
    """Return k, the number of targets of each user in an artifact of kind "ranks"."""
    return int(ranks.column("position").to_numpy().max()) + 1


def by_user(ranks: pa.Table, column: str, list_length: int) -> NDArray[np.int32]:
    """Return a column of ranks or counts as int32 [B, k], 0 for null.

    Args:
        ranks: artifact of kind "ranks".
        column: name of the column.
        list_length: K, the number of beams of each user.

    Raises:
        UserError: a value lies outside 0 … `list_length`.
    """
    values = ranks.column(column).fill_null(0).to_numpy()
    wrong = (values < 0) | (values > list_length)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise UserError(
            f"Ranks: column {column} holds {values[row]} in row {row}, "
            f"but each user had {list_length} beams. Evaluate again."
        )
    return values.reshape(-1, targets_per_user(ranks))
