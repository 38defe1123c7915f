"""Preparation of a data set: tables of interactions and items become artifacts.

The rules, in this order:
1. A row that repeats user, item and time of an earlier row is dropped.
2. k-core: users and items with fewer than k interactions are dropped, repeatedly, until no such user or item
is left.
3. Users with fewer than three items are dropped, because training, validation and testing need one item each.
Users and
   items that then have fewer than k interactions are dropped too.
4. The items of a user are sorted by time. Rows of the same time keep their order in the file.
5. Users are numbered in the order of their first rows in the file. Items are numbered in the order of the
items file; items
   that it does not list follow in the order of their first rows.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from pipelines import artifacts
from pipelines.durable import together
from pipelines.errors import UserError
from pipelines.prepare.tables import Tables
from pipelines.progress import Progress
from pipelines.workspace import Dataset

SHORTEST = 3  # items of a user that leave-one-out needs
TIMES = ("timestamp", "position")


def prepare(
    dataset: Dataset,
    tables: Tables,
    *,
    min_count: int,
    config: dict[str, Any],
    inputs: dict[str, Path],
    progress: Progress,
) -> Dataset:
    """Filter, sort and number a data set, and write interactions, items and sequences together.

    Args:
        dataset: data set to write.
        min_count: k of the k-core filter; 0 for no filter.
        config: configuration of the whole stage, for the provenance.
        inputs: name → path of the files that the tables were read from, for the provenance.

    Raises:
        UserError: the filter leaves no interaction.
    """
    started = time.monotonic()
    interactions = tables.interactions
    when = next(name for name in TIMES if name in interactions.columns)
    distinct = interactions.unique(["user_id", "item_id", when], keep="first", maintain_order=True)
    kept = _core(distinct, min_count, min_count)
    if kept.is_empty():
        raise UserError(
            f"No interaction of {dataset.name} is left by --min-count {min_count}. Use a smaller one."
        )
    kept = _long_enough(kept, min_count, dataset.name, progress)
    catalogue = _catalogue(kept, tables, progress)
    sequences = _sequences(kept, catalogue, when)
    _write(dataset, kept, catalogue, sequences, config, inputs, started)
    return dataset


def is_current(
    dataset: Dataset, config: dict[str, Any], inputs: dict[str, Path], force: bool, progress: Progress
) -> bool:
    """Return True if a data set was made from these files with this configuration, and report it.

    If the data set must be made again, the reason is reported.

    Args:
        force: make the data set again in any case.
    """
    reason = artifacts.stale(dataset.interactions, config, inputs) or artifacts.stale(dataset.sequences)
    if reason is None and not force:
        progress.say(f"{dataset.name} is up to date ({dataset.path}).")
        return True
    if dataset.sequences.exists():
        progress.say(f"Making {dataset.name} again: {reason or 'as requested'}.")
    return False


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


def _long_enough(interactions: pl.DataFrame, min_count: int, name: str, progress: Progress) -> pl.DataFrame:
    """Drop users with too few items for leave-one-out, and report how many."""
    kept = _core(interactions, max(SHORTEST, min_count), min_count)
    if kept.is_empty():
        advice = "Give longer histories" + (f", or less than --min-count {min_count}." if min_count else ".")
        raise UserError(
            f"Every user of {name} has fewer than {SHORTEST} items; leave-one-out needs {SHORTEST}. {advice}"
        )
    dropped = interactions["user_id"].n_unique() - kept["user_id"].n_unique()
    if dropped:
        progress.say(
            f"Dropped {dropped:,} users with fewer than {SHORTEST} items: leave-one-out needs {SHORTEST}."
        )
    return kept


def _catalogue(interactions: pl.DataFrame, tables: Tables, progress: Progress) -> pl.DataFrame:
    """Return item, item_id, text and the text columns, one row per item of the interactions."""
    seen = interactions.select(pl.col("item_id").unique(maintain_order=True))
    listed = tables.items.join(seen, on="item_id", how="semi", maintain_order="left")
    unlisted = seen.join(listed, on="item_id", how="anti", maintain_order="left")
    if len(unlisted) and len(tables.items):
        progress.say(
            f"{len(unlisted):,} of {len(seen):,} items are not in the items file, e.g. "
            f"{unlisted['item_id'][0]}: they have no text."
        )
    parts = [_as_text(pl.col(name), tables.items.schema[name]) for name in tables.text_columns]
    text = pl.concat_str(parts, separator=". ", ignore_nulls=True) if parts else pl.lit("")
    catalogue = pl.concat((listed, unlisted), how="diagonal").with_columns(text.fill_null("").alias("text"))
    without_text = int((catalogue["text"] == "").sum())
    if without_text:
        progress.say(f"{without_text:,} of {len(catalogue):,} items have no text.")
    return catalogue.with_row_index("item").select(
        pl.col("item").cast(pl.Int32), "item_id", "text", *tables.text_columns
    )


def _as_text(column: pl.Expr, kind: pl.DataType) -> pl.Expr:
    """Return a column as text; null if the text is empty."""
    if isinstance(kind, pl.Array):
        column, kind = column.arr.to_list(), pl.List(kind.inner)
    if isinstance(kind, pl.List):
        column = column.list.eval(pl.element().cast(pl.String)).list.join(", ", ignore_nulls=True)
    column = column.cast(pl.String).str.strip_chars()
    return pl.when(column != "").then(column)


def _sequences(interactions: pl.DataFrame, catalogue: pl.DataFrame, when: str) -> pl.DataFrame:
    """Return user, user_id and items, one row per user.

    Args:
        when: name of the column of times.
    """
    users = interactions.select(pl.col("user_id").unique(maintain_order=True)).with_row_index("user")
    by_time = (
        interactions.with_row_index("row").sort(when, "row").drop("row")
    )  # ties keep the order of the file
    items = (
        by_time.join(catalogue.select("item_id", "item"), on="item_id", maintain_order="left")
        .group_by("user_id", maintain_order=True)
        .agg(pl.col("item").alias("items"))
    )
    return users.join(items, on="user_id", maintain_order="left").with_columns(pl.col("user").cast(pl.Int32))


def _write(
    dataset: Dataset,
    interactions: pl.DataFrame,
    catalogue: pl.DataFrame,
    sequences: pl.DataFrame,
    config: dict[str, Any],
    inputs: dict[str, Path],
    started: float,
) -> None:
    """Write all three artifacts, or none."""
    tables = {"interactions": interactions, "items": catalogue, "sequences": sequences}
    with together(dataset.path) as new:
        paths = {kind: new / f"{kind}.parquet" for kind in tables}
        of_sequences = {name: paths[name] for name in ("interactions", "items")}
        for kind, table in tables.items():
            sources = of_sequences if kind == "sequences" else inputs
            artifacts.write(paths[kind], kind, _arrow(table), config=config, inputs=sources, started=started)


def _arrow(table: pl.DataFrame) -> pa.Table:
    """Return a polars table as an Arrow table, with strings and lists of the types that the schemas have."""
    arrow = table.to_arrow()
    types = {pa.large_string(): pa.string(), pa.string_view(): pa.string()}

    def convert(kind: pa.DataType) -> pa.DataType:
        if pa.types.is_large_list(kind):
            return pa.list_(convert(kind.value_type))
        return types.get(kind, kind)

    return arrow.cast(pa.schema([pa.field(field.name, convert(field.type)) for field in arrow.schema]))
