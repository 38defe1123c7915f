"""Order of a user's items: by time, and among equal times as in the file or drawn."""

from __future__ import annotations

import numpy as np
import polars as pl


def places_of(rows: int, ties: str, seed: int) -> np.ndarray:
    """Return the order of rows of equal time, int64 [rows].

    Args:
        rows: number of all rows of the data set.
        ties: "file": they keep their order; "shuffle": their order is drawn.
        seed: seed of the draw.
    """
    places = np.arange(rows)
    return np.random.default_rng(seed).permutation(places) if ties == "shuffle" else places


def in_order(interactions: pl.DataFrame, when: str, places: np.ndarray) -> pl.DataFrame:
    """Sort interactions by time.

    Args:
        when: name of the column of times.
        places: see `places_of`.
    """
    return interactions.with_columns(pl.Series("place", places)).sort(when, "place").drop("place")


def tied(ordered: pl.DataFrame, when: str) -> tuple[int, int]:
    """Count equal times.

    Args:
        ordered: interactions sorted by time.

    Returns:
        the number of neighbors in a user's sequence that have equal times, and of users whose last two items
        have.
    """
    same = (pl.col(when) == pl.col(when).shift(1)).over("user_id").fill_null(False)
    users = ordered.with_columns(same=same).group_by("user_id")
    counts = users.agg(pairs=pl.col("same").sum(), last=pl.col("same").last())
    return int(counts["pairs"].sum()), int(counts["last"].sum())


def sequences(
    ordered: pl.DataFrame, kept: pl.DataFrame, catalogue: pl.DataFrame, first: int = 0
) -> pl.DataFrame:
    """Return user, user_id and items, one row per user, in the order of the users' first rows in the file.

    Args:
        ordered: interactions sorted by time.
        kept: the same interactions in the order of the file.
        catalogue: item and item_id.
        first: number of the first user.
    """
    users = kept.select(pl.col("user_id").unique(maintain_order=True)).with_row_index("user", first)
    items = (
        ordered.join(catalogue.select("item_id", "item"), on="item_id", maintain_order="left")
        .group_by("user_id", maintain_order=True)
        .agg(pl.col("item").alias("items"))
    )
    return users.join(items, on="user_id", maintain_order="left").with_columns(pl.col("user").cast(pl.Int32))
