"""Tables of interactions and items, read from the user's own files."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from pipelines.errors import UserError
from pipelines.import_ import columns
from pipelines.import_.config import ImportConfig
from pipelines.readers.names import ITEM_ROWS, POSITIONS, RATINGS, USERS, matches, plain
from pipelines.readers.read import read_table
from pipelines.readers.typed import inner_type, storable

RESERVED = ("item", "item_id", "text")  # columns of the items artifact; see `_stored_name`


def read_interactions(path: Path, config: ImportConfig) -> pl.DataFrame:
    """Read interactions.

    Returns:
        user_id and item_id (text), timestamp or position (numbers), optionally rating; rows in file order.

    Raises:
        UserError: the file or a column cannot be used.
    """
    table = _read(path, config)
    user = columns.find(table, path, config.user_column, columns.USER)
    item = columns.find(table, path, config.item_column, columns.ITEM)
    when = columns.find(table, path, config.time_column, columns.TIME)
    if len({user, item, when}) < 3:
        raise UserError(f"{path}: users, items and times need a column each, not {user}, {item} and {when}.")
    is_position = plain(when) in map(plain, POSITIONS)
    result = [
        columns.identifiers(table, path, user).alias("user_id"),
        columns.identifiers(table, path, item).alias("item_id"),
        columns.times(table, path, when).alias("position" if is_position else "timestamp"),
    ]
    rating = next(iter(matches(table.columns, RATINGS)), None)
    if rating and table.schema[rating].is_numeric():
        result.append(table[rating].alias("rating"))
    return pl.DataFrame(result)


def read_items(path: Path, config: ImportConfig) -> tuple[pl.DataFrame, list[str]]:
    """Read items.

    Returns:
        item_id (distinct texts) and the text columns; names of the text columns.

    Raises:
        UserError: the file or a column cannot be used, or an item has several rows.
    """
    table = storable(_read(path, config))
    # The configured name may be that of a column in the other file only.
    name = config.item_column if config.item_column in table.columns else None
    item = columns.find(table, path, name, columns.ITEM_ROW)
    texts = _text_columns(table, path, item, config)
    ids = columns.identifiers(table, path, item)
    repeated = ids.filter(ids.is_duplicated())
    if len(repeated):
        raise UserError(f"{path}: item id {repeated[0]!r} stands in several rows. Keep one row an item.")
    stored = {name: _stored_name(name, texts) for name in texts if name != item}
    series = [columns.decoded(table, path, name).alias(alias) for name, alias in stored.items()]
    return pl.DataFrame([ids.alias("item_id"), *series]), list(stored.values())


def _read(path: Path, config: ImportConfig) -> pl.DataFrame:
    """Read a file; columns that may be identifiers stay text as it is written."""
    configured = filter(None, (config.user_column, config.item_column))
    names = {*map(plain, (*USERS, *ITEM_ROWS, *configured))}
    return read_table(path, lambda name: plain(name) in names)


def _text_columns(table: pl.DataFrame, path: Path, item: str, config: ImportConfig) -> list[str]:
    """Return the configured text columns.

    If none are configured, these are all columns of text and of lists of text except the one of items.

    Raises:
        UserError: a configured column does not exist or cannot become text.
    """
    if not config.text_columns:
        types = (pl.String, pl.Categorical, pl.Enum)
        return [name for name, kind in table.schema.items() if name != item and inner_type(kind) in types]
    names = list(dict.fromkeys(name.strip() for name in config.text_columns.split(",")))
    for name in names:
        columns.find(table, path, name, columns.TEXT)
        kind = table.schema[name]
        if inner_type(kind).is_nested() or kind == pl.List(pl.Binary):
            raise UserError(
                f"{path}: column {name} holds {kind} values; texts must be text, numbers or lists of these."
            )
    return names


def _stored_name(name: str, texts: list[str]) -> str:
    """Return the name of a text column in the items artifact: `name` unless it is reserved or empty."""
    stored = name or "unnamed"
    while stored in RESERVED or (stored != name and stored in texts):
        stored += "_given"
    return stored
