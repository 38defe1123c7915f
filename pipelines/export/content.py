"""Content of an export: the users, items and interactions of a prepared data set, with identifiers as
imported.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from pipelines import artifacts
from pipelines.data.catalogue import load_sids
from pipelines.errors import UserError
from pipelines.temporal import PERIODS, is_temporal
from pipelines.workspace import Dataset

# Name of a column in items.parquet → its name in the items file; items.parquet has columns of these names.
RENAMED = {f"{name}_given": name for name in ("item", "item_id", "text")}


@dataclass(frozen=True, eq=False)
class Content:
    """Content of an export.

    Attributes:
        name: name of the data set.
        interactions: user_id and item_id (text), rating and timestamp where the data set has them, and
            position, the place in the user's sequence from 0; user by user, in order of position. If it is
            split, also part: "train", "validation" or "test".
        items: item_id (text), and the columns of the items file by name; in order of item numbers. Their
            order in items.parquet depends on their types, which some formats do not keep.
        sids: semantic IDs, a column of codes for each digit, in the order of `items`; None if not requested.
        split: true if the interactions of each split are written to a file of their own.
    """

    name: str
    interactions: pl.DataFrame
    items: pl.DataFrame
    sids: pl.DataFrame | None = None
    split: bool = False


def read_content(dataset: Dataset, semantic_ids: str | None = None, split: bool = False) -> Content:
    """Read what an export writes.

    Args:
        semantic_ids: name of the semantic IDs to read; None for none.
        split: true if the interactions of each split are written to a file of their own.

    Raises:
        UserError: an artifact is missing or unreadable, or interactions and sequences do not agree.
    """
    items = _read(dataset.items, "items").with_columns(pl.col("item_id").cast(pl.String))
    fields = items.drop("item", "text")
    if fields.width == 1 and (items["text"] != "").any():  # no columns that the text was made from
        fields = items.select("item_id", "text")
    fields = fields.rename({name: given for name, given in RENAMED.items() if name in fields.columns})
    fields = fields.select("item_id", *sorted(name for name in fields.columns if name != "item_id"))
    sids = None
    if semantic_ids is not None:
        codes = load_sids(dataset, semantic_ids).require_sids().astype(np.int64)  # [N, H]
        sids = pl.DataFrame(codes, schema=[f"digit {digit}" for digit in range(codes.shape[1])])
    interactions = _interactions(dataset, items)
    if split:
        interactions = interactions.with_columns(part=_part(_read(dataset.sequences, "sequences")))
    return Content(dataset.name, interactions, fields, sids, split)


def _read(path: Path, kind: str) -> pl.DataFrame:
    table = pl.from_arrow(artifacts.read(path, kind))
    assert isinstance(table, pl.DataFrame)
    return table


def _part(sequences: pl.DataFrame) -> pl.Series:
    """Return the part of each interaction: "train", "validation" or "test"; sequence after sequence."""
    lengths = sequences["items"].list.len().cast(pl.Int64)
    if is_temporal(sequences.columns):
        validation, test = (sequences[f"{period}_begin"].cast(pl.Int64) for period in PERIODS)
    else:
        validation, test = lengths - 2, lengths - 1
    counts = np.stack([validation, test - validation, lengths - test], axis=1)  # [users, 3]
    return pl.Series(np.repeat(np.tile(["train", *PERIODS], len(sequences)), counts.ravel()))


def _interactions(dataset: Dataset, items: pl.DataFrame) -> pl.DataFrame:
    """Return the interactions in the order of the sequences.

    The n-th time that a user's sequence contains an item is the n-th of the user's interactions with it.

    Raises:
        UserError: interactions and sequences do not agree.
    """
    pair = ("user_id", "item_id")
    time = pl.int_range(pl.len()).over(pair)
    sequences = (
        _read(dataset.sequences, "sequences")
        .with_columns(pl.col("user_id").cast(pl.String))
        .explode("items")
        .join(items.select("item_id", items="item"), on="items", how="left", maintain_order="left")
        .select(*pair, position=pl.int_range(pl.len()).over("user"))
        .with_columns(time=time)
    )
    interactions = _read(dataset.interactions, "interactions").with_columns(pl.col(*pair).cast(pl.String))
    by = [name for name in ("timestamp", "position") if name in interactions.columns][:1]
    kept = [name for name in ("rating", "timestamp") if name in interactions.columns]
    interactions = interactions.sort(by, maintain_order=True) if by else interactions
    interactions = interactions.select(*pair, *kept, time=time)
    joined = sequences.join(interactions, on=[*pair, "time"], maintain_order="left")
    if not len(joined) == len(interactions) == len(sequences):
        raise UserError(
            f"{dataset.sequences} was made from other interactions than {dataset.interactions} holds. Import "
            "or download the data set again."
        )
    return joined.select(*pair, *kept, "position")
