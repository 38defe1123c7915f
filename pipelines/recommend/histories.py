"""Histories for recommendations: named sequences of items."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from pipelines.data.sequences import Sequences
from pipelines.data.splits import drawn_rows
from pipelines.recommend.items import ItemTable

if TYPE_CHECKING:
    from pipelines.recommend.model import Model


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
    rows = drawn_rows(len(model.stored), min(count, len(model.stored)), seed)
    return Histories(model.users.gather(rows), model.stored.of_users(rows), rows.astype(np.int32))
