"""Reader of histories from a file, in long form or with lists. It loads the readers of all formats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from pipelines.data.sequences import Sequences
from pipelines.errors import UserError
from pipelines.import_.combined import Combined, read_all
from pipelines.import_.identifiers import identifiers
from pipelines.import_.roles import is_position
from pipelines.import_.times import times
from pipelines.prepare.account import Account
from pipelines.progress import Silent
from pipelines.readers.names import ITEMS, POSITIONS, TIMESTAMPS, USERS, is_known_identifier, matches
from pipelines.readers.rows import Reading
from pipelines.recommend.histories import Histories
from pipelines.recommend.items import ItemTable

OF_ITEMS = (*ITEMS, "items", "item_ids", "history", "sequence")  # names of columns of items or of their lists


def read_histories(path: Path, table: ItemTable) -> Histories:
    """Read histories from a file of any format that can be imported.

    The file has a row for each user and item, in the order of time if it has a column of times, else in the
    order of the file; or a row for each user with a list of items, oldest first. Unknown items are left out,
    with a warning.

    Raises:
        UserError: the file or a column cannot be used.
    """
    log = read_all([path], "--from", Reading(_is_identifier), Account(), Silent())
    taken = _one_item_per_row(log, _column(log, "users", USERS), _column(log, "items", OF_ITEMS))
    rows = table.names.select("item_id").with_row_index("number").unique("item_id", keep="first")
    joined = taken.join(rows, on="item_id", how="left", maintain_order="left")
    table.known(joined["item_id"].drop_nulls().unique(maintain_order=True).to_list(), path.name)
    by_user = joined.group_by("user_id", maintain_order=True).agg(pl.col("number").drop_nulls())
    lengths = by_user["number"].list.len().to_numpy().astype(np.int64)
    items = by_user["number"].explode().drop_nulls().to_numpy().astype(np.int32)
    return Histories(by_user["user_id"], Sequences(items, np.concatenate([[0], np.cumsum(lengths)])))


def _is_identifier(name: str) -> bool:
    return is_known_identifier(name) or bool(matches([name], OF_ITEMS))


def _column(log: Combined, words: str, names: tuple[str, ...]) -> str:
    """Return the column that is known by its name."""
    lists = [name for name, kind in log.table.schema.items() if isinstance(kind, (pl.List, pl.Array))]
    found = matches(log.columns, names, lists)
    if not found:
        raise UserError(
            f"{log.name} has no column of {words} that is known by its name; it has "
            f"{', '.join(log.columns)}. Call it {names[0]}."
        )
    return found[0]


def _one_item_per_row(log: Combined, user: str, item: str) -> pl.DataFrame:
    """Return user_id and item_id (text), in the order of the histories; null for a user without items."""
    names, _ = identifiers(log.table[user], log.name, "another name")
    if isinstance(log.table.schema[item], (pl.List, pl.Array)):
        some = pl.col(item).cast(pl.List(pl.String))
        # A missing list becomes a row; an empty one need not.
        lists = log.table.select(names.alias("user_id"), item_id=pl.when(some.list.len() > 0).then(some))
        return lists.explode("item_id")
    items, _ = identifiers(log.table[item], log.name, "another name")
    pairs = pl.DataFrame({"user_id": names, "item_id": items})
    found = matches(log.columns, (*TIMESTAMPS, *POSITIONS))
    if not found:
        return pairs
    order = times(log, found[0], is_position(found[0]), None).values.alias("time")
    return pairs.with_columns(order).sort("time", maintain_order=True)
