"""Tables of interactions and items → the artifacts of a data set.

The rules, in order:
1. A row that repeats user, item and time of an earlier row is dropped.
2. k-core: users and items with fewer than k interactions are dropped until none is left.
3. Users with fewer than three items are dropped (one each is needed to train, validate and test), and whoever
   and whatever then falls below k.
4. A user's items stand in order of time; rows of the same time keep their order in the file.
5. Users are numbered as they first appear in the file; items in the order of the items file, then those it
   does not list as they first appear.
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
from pipelines.progress import Progress
from pipelines.workspace import Dataset

SHORTEST = 3  # items of a user that leave-one-out needs
TIMES = ("timestamp", "position")


def prepare(
    dataset: Dataset,
    interactions: pl.DataFrame,
    items: pl.DataFrame,
    *,
    text_columns: list[str],
    min_count: int,
    config: dict[str, Any],
    inputs: dict[str, Path],
    progress: Progress,
) -> Dataset:
    """Filter, order and number; then write interactions, items and sequences together.

    Args:
        interactions: user_id, item_id (strings), timestamp or position, perhaps rating; rows as in the file.
        items: item_id (strings, distinct) and the columns that make the text; may have no rows.
        text_columns: in the order in which the text joins them; lists are joined by commas.
        min_count: k of the k-core filter; 0 for none.
        config: of the whole stage, for the provenance.
        inputs: the files it was made from, for the provenance.

    Raises:
        UserError: nothing is left.
    """
    started = time.monotonic()
    when = next(name for name in TIMES if name in interactions.columns)
    kept = _core(
        interactions.unique(["user_id", "item_id", when], keep="first", maintain_order=True),
        min_count,
        min_count,
    )
    if kept.is_empty():
        raise UserError(
            f"No interaction of {dataset.name} is left by --min-count {min_count}. Use a smaller one."
        )
    kept = _long_enough(kept, min_count, dataset.name, progress)
    catalogue = _catalogue(kept, items, text_columns, progress)
    ordered = kept.with_row_index("row").sort(when, "row").drop("row")  # ties keep the order of the file
    sequences = (
        kept.select(pl.col("user_id").unique(maintain_order=True))
        .with_row_index("user")
        .join(
            ordered.join(catalogue.select("item_id", "item"), on="item_id", maintain_order="left")
            .group_by("user_id", maintain_order=True)
            .agg(pl.col("item").alias("items")),
            on="user_id",
            maintain_order="left",
        )
        .with_columns(pl.col("user").cast(pl.Int32))
    )
    _write(dataset, kept, catalogue, sequences, config, inputs, started)
    return dataset


def is_current(
    dataset: Dataset, config: dict[str, Any], inputs: dict[str, Path], force: bool, progress: Progress
) -> bool:
    """Whether a data set already is what these files and settings make; says so, or why it is made again."""
    reason = artifacts.stale(dataset.interactions, config, inputs) or artifacts.stale(dataset.sequences)
    if reason is None and not force:
        progress.say(f"{dataset.name} is up to date ({dataset.path}).")
        return True
    if dataset.sequences.exists():
        progress.say(f"Making {dataset.name} again: {reason or 'as asked'}.")
    return False


def _core(interactions: pl.DataFrame, of_user: int, of_item: int) -> pl.DataFrame:
    """The largest part in which every user and every item has as many interactions."""
    while not interactions.is_empty():
        kept = interactions.filter(
            (pl.len().over("user_id") >= of_user) & (pl.len().over("item_id") >= of_item)
        )
        if len(kept) == len(interactions):
            break
        interactions = kept
    return interactions


def _long_enough(interactions: pl.DataFrame, min_count: int, name: str, progress: Progress) -> pl.DataFrame:
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


def _catalogue(
    interactions: pl.DataFrame, items: pl.DataFrame, text_columns: list[str], progress: Progress
) -> pl.DataFrame:
    """item, item_id, text and the fields of the text, one row an item."""
    seen = interactions.select(pl.col("item_id").unique(maintain_order=True))
    listed = items.join(seen, on="item_id", how="semi", maintain_order="left")
    unlisted = seen.join(listed, on="item_id", how="anti", maintain_order="left")
    if len(unlisted) and len(items):
        progress.say(
            f"{len(unlisted):,} of {len(seen):,} items are not in the items file, e.g. {unlisted['item_id'][0]}: they have no text."
        )
    parts = [_as_text(pl.col(name), items.schema[name]) for name in text_columns]
    text = pl.concat_str(parts, separator=". ", ignore_nulls=True) if parts else pl.lit("")
    catalogue = pl.concat((listed, unlisted), how="diagonal").with_columns(text.fill_null("").alias("text"))
    without = int((catalogue["text"] == "").sum())
    if without:
        progress.say(f"{without:,} of {len(catalogue):,} items have no text.")
    return catalogue.with_row_index("item").select(
        pl.col("item").cast(pl.Int32), "item_id", "text", *text_columns
    )


def _as_text(column: pl.Expr, kind: pl.DataType) -> pl.Expr:
    """A field as a string; null where it says nothing."""
    if isinstance(kind, pl.Array):
        column, kind = column.arr.to_list(), pl.List(kind.inner)
    if isinstance(kind, pl.List):
        column = column.list.eval(pl.element().cast(pl.String)).list.join(", ", ignore_nulls=True)
    column = column.cast(pl.String).str.strip_chars()
    return pl.when(column != "").then(column)


def _write(
    dataset: Dataset,
    interactions: pl.DataFrame,
    catalogue: pl.DataFrame,
    sequences: pl.DataFrame,
    config: dict[str, Any],
    inputs: dict[str, Path],
    started: float,
) -> None:
    """Write all three, or none."""
    made = {"interactions": interactions, "items": catalogue, "sequences": sequences}
    with together(dataset.path) as new:
        paths = {kind: new / f"{kind}.parquet" for kind in made}
        for kind, table in made.items():
            of = {name: paths[name] for name in ("interactions", "items")} if kind == "sequences" else inputs
            artifacts.write(paths[kind], kind, _arrow(table), config=config, inputs=of, started=started)


def _arrow(table: pl.DataFrame) -> pa.Table:
    """Polars' large strings and lists as the plain ones of the schemas."""
    arrow = table.to_arrow()
    plain = {pa.large_string(): pa.string(), pa.string_view(): pa.string()}

    def small(kind: pa.DataType) -> pa.DataType:
        return pa.list_(small(kind.value_type)) if pa.types.is_large_list(kind) else plain.get(kind, kind)

    return arrow.cast(pa.schema([pa.field(f.name, small(f.type)) for f in arrow.schema]))
