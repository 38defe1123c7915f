"""Filters of interactions: repeated rows, k-core, users that are too short for leave-one-out."""

from __future__ import annotations

import polars as pl

from pipelines.errors import UserError
from pipelines.prepare.account import Step

SHORTEST = 3  # items of a user that leave-one-out needs


def filtered(
    interactions: pl.DataFrame, when: str, min_count: int, name: str
) -> tuple[pl.DataFrame, list[Step]]:
    """Apply all filters.

    Args:
        interactions: user_id, item_id and times.
        when: name of the column of times.
        min_count: k of the k-core filter; 0 for no filter.
        name: name of the data set, for messages.

    Returns:
        the interactions left, and the filters.

    Raises:
        UserError: no interaction is left.
    """
    distinct = interactions.unique(["user_id", "item_id", when], keep="first", maintain_order=True)
    steps = [step("Without repeated rows", distinct)]
    core = _core(distinct, min_count, min_count)
    if core.is_empty():
        raise UserError(f"No interaction of {name} is left by --min-count {min_count}. Use a smaller one.")
    if min_count:
        steps.append(step(f"--min-count {min_count}", core))
    kept = _core(core, max(SHORTEST, min_count), min_count)
    if kept.is_empty():
        advice = "Give longer histories" + (f", or less than --min-count {min_count}." if min_count else ".")
        raise UserError(
            f"Every user of {name} has fewer than {SHORTEST} items; leave-one-out needs {SHORTEST}. {advice}"
        )
    steps.append(step(f"Users with at least {SHORTEST} items, as leave-one-out needs", kept))
    return kept, steps


def step(name: str, interactions: pl.DataFrame) -> Step:
    """Return what a filter leaves."""
    return Step(
        name, len(interactions), interactions["user_id"].n_unique(), interactions["item_id"].n_unique()
    )


def _core(interactions: pl.DataFrame, user_count: int, item_count: int) -> pl.DataFrame:
    """Return the largest part in which each user and item has enough interactions.

    Args:
        user_count: smallest number of interactions of a user.
        item_count: smallest number of interactions of an item.
    """
    while not interactions.is_empty():
        kept = interactions.filter(
            (pl.len().over("user_id") >= user_count) & (pl.len().over("item_id") >= item_count)
        )
        if len(kept) == len(interactions):
            break
        interactions = kept
    return interactions
