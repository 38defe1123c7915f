"""Interactions whose users and items are numbers, and parts of them that fit in memory side by side."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from pipelines.prepare.tables import as_categories

PART = 1 << 20  # rows of whole users that are sorted or compared at a time, unless one user has more
BLOCK = 1 << 22  # rows that are counted at a time
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
        counts = count_rows(self.user, kept)  # [U]
        order = np.argsort(first_rows(self.user, kept), kind="stable")  # [U]
        part = np.empty(len(counts), np.int32)
        part[order] = np.maximum(np.cumsum(counts[order]) - 1, 0) // PART
        of_row = part[self.user]  # [N]; of rows that are not kept, arbitrary
        for number in np.unique(part[counts > 0]):
            yield np.flatnonzero(kept & (of_row == number))


def first_rows(codes: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Return the first of some rows with each code, int64 [codes]; the number of all rows if there is none.

    Args:
        codes: uint32 [N].
        kept: true for the rows, bool [N].
    """
    first = np.full(int(codes.max(initial=0)) + 1, len(codes), np.int64)
    for start in reversed(range(0, len(codes), BLOCK)):
        rows = start + np.flatnonzero(kept[start : start + BLOCK])[::-1]
        first[codes[rows]] = rows  # of several values for a code NumPy keeps the last, here the first
    return first


def count_rows(codes: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Return the number of some rows with each code, int64 [codes].

    Args:
        codes: uint32 [N].
        kept: true for the rows, bool [N].
    """
    counts = np.zeros(int(codes.max(initial=0)) + 1, np.int64)
    for start in range(0, len(codes), BLOCK):
        block = slice(start, start + BLOCK)
        found = np.bincount(codes[block][kept[block]])
        counts[: len(found)] += found
    return counts
