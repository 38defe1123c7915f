"""Interactions whose users and items are numbers, and parts of them that fit in memory side by side."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from pipelines.prepare.tables import as_categories

PART = 1 << 20  # rows of whole users that are sorted or compared at a time, unless one user has more
TIMES = ("timestamp", "position")


@dataclass(frozen=True, eq=False)
class Coded:
    """Interactions in file order, N rows of U users and I items.

    Attributes:
        table: user_id and item_id (categories of text), timestamp or position, optionally rating.
        user: code of each row's user, uint32 [N], from 0 to U − 1.
        item: code of each row's item, uint32 [N], from 0 to I − 1.
    """

    table: pl.DataFrame
    user: np.ndarray
    item: np.ndarray

    @staticmethod
    def of(interactions: pl.DataFrame) -> Coded:
        """Return interactions whose ids are text or categories of text."""
        table = interactions.with_columns(
            as_categories(interactions[name]) for name in ("user_id", "item_id")
        )
        return Coded(table, *(table[name].to_physical().to_numpy() for name in ("user_id", "item_id")))

    @property
    def when(self) -> str:
        """Name of the column of times."""
        return next(name for name in TIMES if name in self.table.columns)

    def __len__(self) -> int:
        return len(self.table)

    def texts(self, column: str, kept: np.ndarray) -> pl.Series:
        """Return the distinct ids among some rows, text, in the order of their first rows.

        Args:
            column: "user_id" or "item_id".
            kept: true for these rows, bool [N].
        """
        codes = self.user if column == "user_id" else self.item
        first = first_rows(codes, kept)  # [codes]
        return self.table[column].gather(np.sort(first[first < len(codes)])).cast(pl.String)

    def parts(self, kept: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the numbers of some rows, those of a number of whole users at a time, int64, ascending.

        The users come in the order of their first rows.

        Args:
            kept: true for the rows, bool [N].
        """
        counts = np.bincount(self.user[kept])  # [U]
        first = first_rows(self.user, kept)[: len(counts)]  # [U]
        order = np.argsort(first, kind="stable")  # [U]
        part = np.empty(len(counts), np.int32)
        part[order] = (np.cumsum(counts[order]) - 1) // PART
        of_row = part[np.minimum(self.user, len(counts) - 1)]  # [N]; of rows that are not kept, arbitrary
        for number in np.unique(part[counts > 0]):
            yield np.flatnonzero(kept & (of_row == number))


def first_rows(codes: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Return the first of some rows with each code, int64 [codes]; the number of all rows if there is none.

    Args:
        codes: uint32 [N].
        kept: true for the rows, bool [N].
    """
    first = np.full(int(codes.max(initial=0)) + 1, len(codes), np.int64)
    rows = np.flatnonzero(kept)[::-1]
    first[codes[rows]] = rows  # of several values for a code, NumPy keeps the last, which is the first row
    return first
