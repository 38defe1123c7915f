"""Catalogue of a data set: which items it has, in which order, and their texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from pipelines.prepare.tables import Tables

NUMBERED = ("item", "item_id", "text")  # first columns of the catalogue


def catalogue(
    kept: pl.DataFrame, tables: Tables, untaken: bool, before: pl.DataFrame | None
) -> tuple[pl.DataFrame, list[str]]:
    """Return the items.

    Their order: the items of the catalogue before, the taken items in the order of the items file, the taken
    ones that it does not list in the order of their first rows, and the items that nobody took.

    Args:
        kept: interactions that the filters leave.
        untaken: True if items of the items file without any interaction are part of the catalogue.
        before: catalogue whose items keep their numbers; None if there is none.

    Returns:
        item, item_id, text and the other columns of the items file; and what is to be said about them.
    """
    rows = _with_text(tables)
    taken = kept.select(pl.col("item_id").unique(maintain_order=True))
    missing = taken.join(rows, on="item_id", how="anti", maintain_order="left")
    listed = rows.join(taken, on="item_id", how="semi", maintain_order="left")
    free = rows.join(tables.interactions, on="item_id", how="anti", maintain_order="left")
    parts = [listed, missing] + ([free] if untaken else [])
    if before is not None:
        rows = pl.concat((rows, _aligned(before, rows)), how="diagonal").unique("item_id", keep="first")
        old = before.select("item_id").join(rows, on="item_id", how="left", maintain_order="left")
        parts = [old, *(part.join(old, on="item_id", how="anti", maintain_order="left") for part in parts)]
        missing = missing.join(old, on="item_id", how="anti", maintain_order="left")
    items = pl.concat(parts, how="diagonal").with_columns(pl.col("text").fill_null(""))
    items = items.with_row_index("item").with_columns(pl.col("item").cast(pl.Int32))
    others = [name for name in items.columns if name not in NUMBERED]
    return items.select(*NUMBERED, *others), _notes(items, tables, missing, taken, free, untaken, before)


def _notes(
    items: pl.DataFrame,
    tables: Tables,
    missing: pl.DataFrame,
    taken: pl.DataFrame,
    free: pl.DataFrame,
    untaken: bool,
    before: pl.DataFrame | None,
) -> list[str]:
    notes = []
    if before is not None:
        notes.append(f"{len(before):,} items keep their numbers; {len(items) - len(before):,} are new.")
    if len(missing) and len(tables.items):
        notes.append(
            f"{len(missing):,} of {len(taken):,} items are not in the items file, e.g. "
            f"{missing['item_id'][0]}: they have no text."
        )
    if len(free):
        state = "part of the catalogue" if untaken else "left out; --untaken keeps them"
        notes.append(
            f"{len(free):,} items of the items file were never taken, e.g. {free['item_id'][0]}: {state}."
        )
    without_text = int((items["text"] == "").sum())
    if without_text and len(tables.items):
        notes.append(f"{without_text:,} of {len(items):,} items have no text.")
    return notes


def _with_text(tables: Tables) -> pl.DataFrame:
    """Return the rows of the items file with their texts; null where there is none."""
    return tables.items.with_columns(text_of(tables.items.schema, tables.text_columns).alias("text"))


def text_of(schema: Mapping[str, pl.DataType], columns: Sequence[str]) -> pl.Expr:
    """Return the texts of items: their text columns joined by a period and a space; null where all are null.

    Args:
        schema: types of the columns.
        columns: text columns.
    """
    parts = [_as_text(pl.col(name), schema[name]) for name in columns]
    text = pl.concat_str(parts, separator=". ", ignore_nulls=True) if parts else pl.lit("")
    return text.cast(pl.String)


def _as_text(column: pl.Expr, kind: pl.DataType) -> pl.Expr:
    """Return a column as text; null if the text is empty."""
    if isinstance(kind, pl.Array):
        column, kind = column.arr.to_list(), pl.List(kind.inner)
    if isinstance(kind, pl.List):
        inner = kind.inner if isinstance(kind.inner, pl.DataType) else kind.inner()
        entries = column.list.eval(_as_text(pl.element(), inner))
        column = entries.list.drop_nulls().list.join(", ")
    column = column.cast(pl.String).str.strip_chars()
    return pl.when(column != "").then(column)


def _aligned(before: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Return the catalogue before with the types of the new columns; values that do not fit are missing."""
    columns = [name for name in before.columns if name != "item"]
    return before.select(
        pl.col(name).cast(rows.schema[name], strict=False) if _differs(name, before, rows) else pl.col(name)
        for name in columns
    )


def _differs(name: str, before: pl.DataFrame, rows: pl.DataFrame) -> bool:
    return name in rows.columns and rows.schema[name] != before.schema[name]
