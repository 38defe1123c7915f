"""Filters of interactions: repeated rows, k-core, users that are too short for leave-one-out."""

from __future__ import annotations

import numpy as np
import polars as pl

from pipelines.errors import UserError
from pipelines.prepare.account import Step
from pipelines.prepare.coded import Coded, count_rows

SHORTEST = 3  # items of a user that leave-one-out needs


def filtered(
    interactions: Coded, min_count: int, name: str, shortest: int = SHORTEST
) -> tuple[np.ndarray, list[Step]]:
    """Apply all filters.

    Args:
        min_count: k of the k-core filter; 0 for no filter.
        name: name of the data set, for messages.
        shortest: smallest number of items of a user.

    Returns:
        true for the rows that are left, bool [N], and the filters.

    Raises:
        UserError: no interaction is left.
    """
    kept = _distinct(interactions)
    steps = [_step("Without repeated rows", interactions, kept)]
    kept = _core(interactions, kept, min_count, min_count)
    if not kept.any():
        raise UserError(f"No interaction of {name} is left by --min-count {min_count}. Use a smaller one.")
    if min_count:
        steps.append(_step(f"--min-count {min_count}", interactions, kept))
    if shortest > 1:
        kept = _core(interactions, kept, max(shortest, min_count), min_count)
        if not kept.any():
            less = f", or less than --min-count {min_count}" if min_count else ""
            raise UserError(
                f"Every user of {name} has fewer than {shortest} items; leave-one-out needs {shortest}. Give "
                f"longer histories{less}."
            )
        words = f"Users with at least {shortest} items, as leave-one-out needs"
        steps.append(_step(words, interactions, kept))
    return kept, steps


def step(name: str, interactions: pl.DataFrame) -> Step:
    """Return what a filter leaves."""
    return Step(
        name, len(interactions), interactions["user_id"].n_unique(), interactions["item_id"].n_unique()
    )


def _step(name: str, interactions: Coded, kept: np.ndarray) -> Step:
    users, items = (count_rows(codes, kept) for codes in (interactions.user, interactions.item))
    return Step(name, int(kept.sum()), int((users > 0).sum()), int((items > 0).sum()))


def _distinct(interactions: Coded) -> np.ndarray:
    """Return the rows that do not repeat user, item and time of an earlier one, bool [N]."""
    kept = np.ones(len(interactions), bool)
    times = interactions.table[interactions.when].to_numpy()  # [N]
    for rows in interactions.parts(kept.copy()):
        pair = interactions.user[rows].astype(np.uint64) << 32 | interactions.item[rows]  # [n]
        order = np.lexsort((times[rows], pair))  # [n], rows of equal pair and time as in the file
        pair, when = pair[order], times[rows][order]
        repeats = (pair[1:] == pair[:-1]) & (when[1:] == when[:-1])  # [n − 1]
        kept[rows[order[1:][repeats]]] = False
    return kept


def _core(interactions: Coded, kept: np.ndarray, user_count: int, item_count: int) -> np.ndarray:
    """Return the largest part of some rows in which each user and item has enough of them, bool [N].

    Args:
        kept: true for the rows, bool [N].
        user_count: smallest number of interactions of a user.
        item_count: smallest number of interactions of an item.
    """
    left = int(kept.sum())
    while left:
        enough = kept.copy()
        for codes, count in ((interactions.user, user_count), (interactions.item, item_count)):
            enough &= (count_rows(codes, kept) >= count)[codes]
        kept, before = enough, left
        left = int(kept.sum())
        if left == before:
            break
    return kept
