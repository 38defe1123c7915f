"""Order of a user's items: by time, and among equal times as in the file or drawn."""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa

from pipelines.prepare.coded import Coded, first_rows
from pipelines.prepare.cuts import Cuts


class Ordered:
    """Sequences of users, in the order of the users' first rows in the file.

    Attributes:
        parts: tables with user, user_id and items, and the columns of a temporal split; one row per user.
        tied_pairs: number of neighbors in a user's sequence that have equal times.
        tied_last: share of users whose last two items have.
    """

    def __init__(
        self,
        log: Coded,
        kept: np.ndarray,
        catalogue: pl.DataFrame,
        ties: str,
        seed: int,
        cuts: Cuts | None = None,
    ) -> None:
        """
        Args:
            kept: true for the rows that make the sequences, bool [N].
            catalogue: item and item_id.
            ties: "file": rows of equal time keep the order of the file; "shuffle": their order is drawn.
            seed: seed of the draw.
            cuts: times of a temporal split; None for leave-one-out.
        """
        self._log, self._cuts = log, cuts
        self._first = first_rows(log.user, kept)  # [U]
        self._number = _numbers(log, catalogue)  # [I]
        self._when = log.table[log.when].to_numpy()  # [N]
        drawn = ties == "shuffle"
        self._place = _drawn(kept, seed) if drawn else None  # [N]
        self.parts: list[pa.Table] = []
        self.tied_pairs, self._last, self._users = 0, 0, 0
        for rows in log.parts(kept):
            self._add(rows)

    @property
    def tied_last(self) -> float:
        return self._last / max(1, self._users)

    def _add(self, rows: np.ndarray) -> None:
        """Sort the rows of some users, int64 [n], ascending."""
        user, when = self._first[self._log.user[rows]], self._when[rows]  # a user is its first row
        keys = (when, user) if self._place is None else (self._place[rows], when, user)
        order = np.lexsort(keys)  # [n]
        rows, user, when = rows[order], user[order], when[order]
        same_user = user[1:] == user[:-1]  # [n − 1]
        tied = same_user & (when[1:] == when[:-1])  # [n − 1]
        starts = np.concatenate([[0], np.flatnonzero(~same_user) + 1, [len(rows)]])  # [users + 1]
        users = len(starts) - 1
        ends = starts[1:] - 2  # [users], the pair of the last two items
        self.tied_pairs += int(tied.sum())
        self._last += int(tied[ends[np.diff(starts) > 1]].sum())
        names = self._log.table["user_id"].gather(user[starts[:-1]]).cast(pl.String).to_arrow()
        items = pa.array(self._number[self._log.item[rows]], pa.int32())
        numbers = np.arange(self._users, self._users + users)
        columns = {
            "user": pa.array(numbers, pa.int32()),
            "user_id": names.cast(pa.string()),
            "items": pa.ListArray.from_arrays(pa.array(starts, pa.int32()), items),
        }
        if self._cuts:
            columns |= self._cuts.columns(self._log.item[rows], when, starts)
        self.parts.append(pa.table(columns))
        self._users += users


def _numbers(log: Coded, catalogue: pl.DataFrame) -> np.ndarray:
    """Return the number of the item of each code, int32 [I or more]; −1 for items that are not in the
    catalogue.
    """
    codes = catalogue["item_id"].cast(log.table.schema["item_id"]).to_physical().to_numpy()
    numbers = np.full(max(int(codes.max()), int(log.item.max())) + 1, -1, np.int32)
    numbers[codes] = catalogue["item"].to_numpy()
    return numbers


def _drawn(kept: np.ndarray, seed: int) -> np.ndarray:
    """Return a drawn order of the rows that are kept, int64 [N]; 0 for the others."""
    places = np.zeros(len(kept), np.int64)
    places[kept] = np.random.default_rng(seed).permutation(np.arange(int(kept.sum())))
    return places
