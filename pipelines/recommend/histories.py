"""Histories for recommendations: of a user of the data set, or from a file in long form or with lists."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from pipelines.data.sequences import Sequences, gather
from pipelines.errors import UserError
from pipelines.import_.combined import Combined, read_all
from pipelines.import_.identifiers import identifiers
from pipelines.import_.roles import is_position
from pipelines.import_.times import times
from pipelines.prepare.account import Account
from pipelines.progress import Silent
from pipelines.readers.names import ITEMS, POSITIONS, TIMESTAMPS, USERS, is_known_identifier, matches
from pipelines.readers.rows import Reading
from pipelines.recommend.items import ItemTable

if TYPE_CHECKING:
    from pipelines.recommend.model import Model

OF_ITEMS = (*ITEMS, "items", "item_ids", "history", "sequence")  # names of columns of items or of their lists


@dataclass(frozen=True, eq=False)
class Histories:
    """Named histories.

    Attributes:
        names: name of each history; the series is called "user_id" or "history".
        items: item numbers, oldest first.
        users: number of each history's user, int32 [B], which seeds what is random; None for the position.
    """

    names: pl.Series
    items: Sequences
    users: np.ndarray | None = None

    def of(self, place: int) -> np.ndarray:
        """Return one history, int32 [n]."""
        return self.items.items[self.items.offsets[place] : self.items.offsets[place + 1]]


def history_of(identifiers: list[str], table: ItemTable) -> Histories:
    """Return one history, called 0; unknown items are left out, with a warning."""
    numbers = table.known(identifiers, "The history").astype(np.int32)
    return Histories(pl.Series("history", [0]), Sequences(numbers, np.array([0, len(numbers)])))


def history_of_user(model: Model, user: str) -> Histories:
    """Return the whole history of a user of the data set.

    Raises:
        UserError: there is no such user.
    """
    row, items = model.row_of(user)
    offsets = np.array([0, len(items)])
    return Histories(pl.Series("user_id", [user]), Sequences(items, offsets), np.array([row], np.int32))


def sample_histories(model: Model, count: int, seed: int) -> Histories:
    """Return the whole histories of so many users of the data set, drawn without replacement."""
    sequences = model.sequences
    count = min(count, len(sequences))
    rows = np.sort(np.random.default_rng(seed).choice(len(sequences), count, replace=False))
    kept = gather(sequences.items, sequences.offsets[rows], sequences.lengths[rows])
    return Histories(model.users.gather(rows), kept, rows.astype(np.int32))


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
