"""Table of items: distinct ids, all columns with their types, and which of them make the text."""

from __future__ import annotations

import polars as pl

from pipelines.errors import UserError
from pipelines.import_.combined import ROW, Combined
from pipelines.import_.config import ImportConfig
from pipelines.import_.identifiers import decoded, identifiers
from pipelines.import_.unusable import Unusable
from pipelines.import_.values import kind_of, values
from pipelines.prepare.account import Account, Column
from pipelines.readers.typed import leaf_type, storable

RESERVED = ("item", "item_id", "text")  # columns of the items artifact; see `_stored_name`


def read_items(
    catalogue: Combined, item: str, config: ImportConfig, account: Account
) -> tuple[pl.DataFrame, list[str]]:
    """Return item_id (distinct texts) and the other columns; names of the text columns.

    Rows without an item, and rows that repeat an item, are dropped.

    Args:
        item: column of items.

    Raises:
        UserError: a column cannot be used, or too many rows cannot be.
    """
    catalogue.require([item])
    texts = _text_columns(catalogue, item, config)
    ids, note = identifiers(catalogue.table[item], catalogue.name, "--item-column, or call it item_id")
    unusable = Unusable()
    catalogue.unread(unusable)
    table = catalogue.table.with_columns(ids.alias(item))
    distinct = table.unique(
        [name for name in table.columns if name != ROW], keep="first", maintain_order=True
    )
    for wrong, reason in (
        (pl.col(item).is_null(), "have no item"),
        (pl.col(item).is_not_null() & ~pl.col(item).is_first_distinct(), "repeat an item with other values"),
    ):
        rows = distinct.filter(wrong)
        if len(rows):
            first = f"{catalogue.place(rows[ROW][0])}: {item} is {rows[item][0]!r}"
            unusable.add(reason, len(rows), first)
    account.dropped += unusable.drops(len(table), config.max_bad_rows, catalogue.name)
    kept = distinct.filter(pl.col(item).is_not_null() & pl.col(item).is_first_distinct()).drop(ROW)
    shown = ", ".join(texts) or "none"
    account.columns.append(
        Column("item rows", item, kind_of(catalogue.table[item]), values(catalogue.table[item]), note)
    )
    account.columns.append(
        Column("texts", shown, "text", [v for name in texts[:1] for v in values(kept[name])])
    )
    return _stored(kept, item, texts, catalogue.name)


def _stored(table: pl.DataFrame, item: str, texts: list[str], name: str) -> tuple[pl.DataFrame, list[str]]:
    """Return the columns of items with types and names that the artifact can have."""
    others = [column for column in table.columns if column != item]
    ordered = [*texts, *(column for column in others if column not in texts)]
    stored = {column: _stored_name(column, others) for column in ordered if column != item}
    series = [decoded(table[column], name).alias(alias) for column, alias in stored.items()]
    return storable(pl.DataFrame([table[item].alias("item_id"), *series])), [
        stored[column] for column in texts if column != item
    ]


def _text_columns(catalogue: Combined, item: str, config: ImportConfig) -> list[str]:
    """Return the configured text columns.

    If none are configured, these are all columns of text and of lists of text except the one of items.

    Raises:
        UserError: a configured column does not exist or cannot become text.
    """
    schema = catalogue.schema
    if not config.text_columns:
        types = (pl.String, pl.Categorical, pl.Enum)
        return [name for name, kind in schema.items() if name != item and isinstance(leaf_type(kind), types)]
    names = list(dict.fromkeys(name.strip() for name in config.text_columns.split(",")))
    for name in names:
        if name not in schema:
            raise UserError(
                f"{catalogue.name} has no column {name!r}; it has {', '.join(schema)}. Name the ones of "
                "texts with --text-columns."
            )
        kind = schema[name]
        if leaf_type(kind).is_nested() or kind == pl.List(pl.Binary):
            raise UserError(
                f"{catalogue.name}: column {name} holds {kind} values; texts must be text, numbers or lists "
                "of these."
            )
    return names


def _stored_name(name: str, others: list[str]) -> str:
    """Return the name of a column in the items artifact: `name` unless it is reserved or empty."""
    stored = name or "unnamed"
    while stored in RESERVED or (stored != name and stored in others):
        stored += "_given"
    return stored
