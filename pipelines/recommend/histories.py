"""Histories for recommendations: of a user of the data set, or from a file in long form or with lists."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from pipelines.data.sequences import Sequences
from pipelines.errors import UserError
from pipelines.import_ import columns
from pipelines.readers.names import ITEMS, POSITIONS, TIMESTAMPS, USERS, matches
from pipelines.readers.read import read_table
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


def read_histories(path: Path, table: ItemTable) -> Histories:
    """Read histories from a file of any format that can be imported.

    The file has a row for each user and item, in the order of time if it has a column of times, else in the
    order of the file; or a row for each user with a list of items, oldest first. Unknown items are left out,
    with a warning.

    Raises:
        UserError: the file or a column cannot be used.
    """
    frame = read_table(path)
    user, item = _column(frame, path, "users", USERS), _column(frame, path, "items", OF_ITEMS)
    taken = _one_item_per_row(frame, user, item, path)
    rows = table.names.select("item_id").with_row_index("number").unique("item_id", keep="first")
    joined = taken.join(rows, on="item_id", how="left", maintain_order="left")
    table.known(joined["item_id"].drop_nulls().unique(maintain_order=True).to_list(), path.name)
    by_user = joined.group_by("user_id", maintain_order=True).agg(pl.col("number").drop_nulls())
    lengths = by_user["number"].list.len().to_numpy().astype(np.int64)
    items = by_user["number"].explode().drop_nulls().to_numpy().astype(np.int32)
    return Histories(by_user["user_id"], Sequences(items, np.concatenate([[0], np.cumsum(lengths)])))


def _column(frame: pl.DataFrame, path: Path, words: str, names: tuple[str, ...]) -> str:
    """Return the column that is known by its name."""
    lists = [name for name, kind in frame.schema.items() if isinstance(kind, (pl.List, pl.Array))]
    found = matches(frame.columns, names, lists)
    if not found:
        raise UserError(
            f"{path} has no column of {words} that is known by its name; it has {', '.join(frame.columns)}. "
            f"Call it {names[0]}."
        )
    return found[0]


def _one_item_per_row(frame: pl.DataFrame, user: str, item: str, path: Path) -> pl.DataFrame:
    """Return user_id and item_id (text), in the order of the histories; null for a user without items."""
    if isinstance(frame.schema[item], (pl.List, pl.Array)):
        some = pl.col(item).cast(pl.List(pl.String))  # a missing list becomes a row, an empty one need not
        lists = frame.select(
            user_id=pl.col(user).cast(pl.String), item_id=pl.when(some.list.len() > 0).then(some)
        )
        return lists.explode("item_id")
    pairs = pl.DataFrame(
        {"user_id": columns.identifiers(frame, path, user), "item_id": columns.identifiers(frame, path, item)}
    )
    times_found = matches(frame.columns, (*TIMESTAMPS, *POSITIONS))
    if not times_found:
        return pairs
    times = columns.times(frame, path, times_found[0]).alias("time")
    return pairs.with_columns(times).sort("time", maintain_order=True)
