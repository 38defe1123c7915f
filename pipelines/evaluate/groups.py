"""Metrics of groups of targets: by the popularity of the target, by the length of the history, cold and warm.

A recommender that wins on average often loses for rare items or short histories; a mean does not tell."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.data.held_out import HeldOut
from pipelines.data.splits import Split
from pipelines.evaluate.config import COLD, POPULARITY
from pipelines.evaluate.metrics import metrics_table

QUANTILES = 4  # number of groups of about equal size
KEPT = ["position", "rank", "invalid", "duplicates"]  # columns of ranks that metrics are computed from


@dataclass(frozen=True, eq=False)
class Grouping:
    """Groups of targets.

    Attributes:
        labels: of each group, such as "6 to 12".
        of: function from an artifact of kind "ranks" to the group of each row, int64 [rows].
    """

    labels: tuple[str, ...]
    of: Callable[[pa.Table], NDArray[np.int64]]


def grouping(by: str, users: Split | HeldOut, counts: np.ndarray) -> Grouping:
    """Group the targets of users.

    Groups by popularity and by length are cut at the quartiles of the targets, and targets of equal values
    stay together, so that there may be fewer than four.

    Args:
        by: one of `GROUPINGS`: the number of training interactions of the target; the number of items of the
            history; whether the target has a training interaction.
        users: histories and targets.
        counts: number of training interactions of each item, int64 [N].
    """
    chunks = [(split.users, split.lengths, split.targets) for split in users.chunks()]
    numbers, lengths, targets = (np.concatenate(parts) for parts in zip(*chunks, strict=True))
    if by == COLD:
        warm = counts > 0  # [N]
        return Grouping(("cold", "warm"), lambda ranks: warm[_column(ranks, "target")].astype(np.int64))
    if by == POPULARITY:
        column, value_of, values = "target", counts, counts[targets].ravel()
    else:
        column, value_of = "user", np.zeros(numbers.max() + 1, np.int64)
        value_of[numbers] = lengths
        values = np.repeat(lengths, targets.shape[1])
    shares = np.arange(1, QUANTILES) / QUANTILES
    ends = np.unique([*np.quantile(values, shares, method="lower"), values.max()])  # largest of each group
    groups = np.searchsorted(ends, values)
    begins = [int(values[groups == group].min()) for group in range(len(ends))]
    labels = (
        f"{low:,}" if low == high else f"{low:,} to {high:,}" for low, high in zip(begins, ends, strict=True)
    )
    return Grouping(tuple(labels), lambda ranks: np.searchsorted(ends, value_of[_column(ranks, column)]))


def grouped_metrics(
    groups: Grouping, ranks: Callable[[], Iterable[pa.Table]], list_length: int
) -> list[tuple[str, pa.Table]]:
    """Return the label and the metrics of each group that has a target. A target counts as a user of its own.

    Args:
        groups: the groups.
        ranks: function that returns an artifact of kind "ranks" in parts; it is called for each group.
        list_length: K, the number of beams of each user.

    Returns:
        Metrics are artifacts of kind "metrics"; see `metrics_table`.
    """
    result = []
    for group, label in enumerate(groups.labels):
        parts = (_alone(table.filter(pa.array(groups.of(table) == group))) for table in ranks())
        kept = [part.select(KEPT) for part in parts if len(part)]
        if kept:
            result.append((label, metrics_table(kept, list_length)))
    return result


def _alone(ranks: pa.Table) -> pa.Table:
    """Return ranks with each target as the only one of a user."""
    place = ranks.schema.get_field_index("position")
    return ranks.set_column(place, "position", pc.multiply(ranks["position"], pa.scalar(0, pa.int32())))


def _column(ranks: pa.Table, name: str) -> NDArray[np.int32]:
    values: NDArray[np.int32] = ranks.column(name).to_numpy()
    return values
