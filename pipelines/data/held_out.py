"""Histories and targets of stored sequences, read a chunk of users at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pipelines.data.splits import Split, drawn_rows, held_out
from pipelines.data.stored import StoredSequences


@dataclass(frozen=True, eq=False)
class HeldOut:
    """A split of the users of a data set whose histories stay in their files. It stands for a `Split` where
    all users may be too many for the memory.

    Attributes:
        stored: sequences of all users.
        name: "test" or "validation", see `splits.histories`.
        horizon: number k of items that follow each history.
        warm_items: see `Split`.
    """

    stored: StoredSequences
    name: str
    horizon: int = 1
    warm_items: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.users)

    @cached_property
    def users(self) -> np.ndarray:
        """Users with a target, ascending, int64 [B]."""
        return self.stored.targets(self.name)

    def chunks(self) -> Iterator[Split]:
        """Yield the split of one chunk of users after another.

        Raises:
            UserError: the split is unknown, or a file cannot be read; see `splits.bounds_of`.
        """
        for first, sequences in self.stored.chunks():
            split = held_out(sequences, self.name, self.horizon, self.warm_items, first)
            if len(split):
                yield split

    def sample(self, n: int, seed: int) -> Split | HeldOut:
        """Return `n` users drawn without replacement, in their order, in memory; see `Split.sample`."""
        if n >= len(self):
            return self
        drawn = self.users[drawn_rows(len(self), n, seed)]
        parts = [chunk.rows(np.flatnonzero(np.isin(chunk.users, drawn))) for chunk in self.chunks()]
        lengths = np.concatenate([part.lengths for part in parts])
        return Split(
            np.concatenate([part.items for part in parts]),
            np.concatenate([[0], np.cumsum(lengths)]),
            np.concatenate([part.users for part in parts]),
            np.concatenate([part.targets for part in parts]),
            self.warm_items,
        )
