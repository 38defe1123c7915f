"""Metrics of lists without the items of the history, from the lists that an evaluation has stored.

Where users do not return to items, a model that recommends them loses places; where they do, leaving them out
loses hits. Publications differ in which they report. Shapes: B users, K items of a list.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.data.held_out import HeldOut
from pipelines.data.splits import Split
from pipelines.evaluate.lists import DEPTH, read_lists
from pipelines.evaluate.metrics import metrics_table, ranks_table

LONGEST = 100  # items of a list among which those that are not seen are looked for


@dataclass(frozen=True, eq=False)
class Unseen:
    """Metrics of the first ten items of each list that are not in the history.

    Attributes:
        metrics: artifact of kind "metrics".
        short: share of the users of whose list fewer than ten items (or than it had) are left.
    """

    metrics: pa.Table
    short: float


def without_seen(folder: Path, users: Split | HeldOut, beams: int) -> Unseen:
    """Measure the lists of an evaluation without the items of the histories.

    Args:
        folder: folder of the evaluation, with a horizon of one item.
        users: its users, in its order.
        beams: K, the length of its lists.

    Raises:
        UserError: the lists cannot be read.
    """
    short, depth = 0, min(DEPTH, beams)

    def ranks() -> Iterator[pa.Table]:
        nonlocal short
        for split, lists in _lists(folder, users, min(LONGEST, beams)):
            left = unseen(split, lists)
            short += int(((left >= 0).sum(1) < depth).sum())
            none = np.zeros(len(split), np.int32)
            yield ranks_table(split, left, none, none)

    measured = metrics_table(ranks(), depth)
    return Unseen(measured.filter(pc.is_valid(measured["k"])), short / max(1, len(users)))


def unseen(split: Split, lists: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the first ten items of each list that are not in the history, int32 [B, 10]; −1 at the end.

    Args:
        split: histories.
        lists: items, best first, int32 [B, K]; −1 for none.
    """
    B, K = lists.shape
    if not B or not K:
        return np.full((B, DEPTH), -1, np.int32)
    most = int(max(lists.max(), split.items.max(initial=0))) + 1
    taken = np.repeat(np.arange(B), split.lengths) * most + split.items
    places = np.arange(B)[:, None] * most + lists
    stays = (lists >= 0) & ~np.isin(places, taken)  # [B, K]
    order = np.argsort(~stays, axis=1, kind="stable")[:, :DEPTH]
    kept = np.where(np.take_along_axis(stays, order, 1), np.take_along_axis(lists, order, 1), -1)
    return np.pad(kept, ((0, 0), (0, DEPTH - kept.shape[1])), constant_values=-1).astype(np.int32)


def _lists(folder: Path, users: Split | HeldOut, depth: int) -> Iterator[tuple[Split, NDArray[np.int32]]]:
    """Yield chunks of users with the first items of their lists, int32 [B, depth], −1 for none."""
    parts, waiting = read_lists(folder, depth=depth), np.zeros((0, depth), np.int32)
    for split in users.chunks():
        while len(waiting) < len(split):
            waiting = np.concatenate([waiting, next(parts)])
        yield split, waiting[: len(split)]
        waiting = waiting[len(split) :]
