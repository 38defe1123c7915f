"""Statistics of a data set, as in table 6 of the paper. Only artifacts are read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from pipelines import artifacts
from pipelines.workspace import Dataset

USERS = 1 << 17  # users whose pairs are counted at a time
PAPER = Path(__file__).parent / "table6.json"


@dataclass(frozen=True)
class Statistics:
    """Size and sparsity of a data set.

    Attributes:
        pairs: number of distinct pairs of a user and an item; None if no interaction repeats a pair, or if
            they were not counted.
    """

    users: int
    items: int
    interactions: int
    pairs: int | None = None

    @property
    def average_length(self) -> float:
        """Number of interactions per user."""
        return self.interactions / self.users

    @property
    def sparsity(self) -> float:
        """Share of user–item pairs without an interaction."""
        pairs = self.interactions if self.pairs is None else self.pairs
        return 1 - pairs / (self.users * self.items)


def statistics(dataset: Dataset) -> Statistics:
    """Count the users, items and interactions of a data set.

    Raises:
        UserError: an artifact is missing or unreadable.
    """
    if dataset.lists_files:
        listing = artifacts.read(dataset.sequences, "sequence_files")
        users, interactions = (pc.sum(listing[name]).as_py() for name in ("users", "interactions"))
        return Statistics(users, artifacts.count(dataset.items), interactions)
    sequences = artifacts.read(dataset.sequences, "sequences", columns=["items"])["items"].combine_chunks()
    items = artifacts.count(dataset.items)
    interactions = pairs = 0
    for start in range(0, len(sequences), USERS):
        part = sequences.slice(start, USERS)
        users = pc.list_parent_indices(part).to_numpy().astype(np.int64)  # [n]
        distinct = np.unique(users * items + pc.list_flatten(part).to_numpy())  # [≤ n]
        interactions, pairs = interactions + len(users), pairs + len(distinct)
    return Statistics(len(sequences), items, interactions, pairs)


def paper_statistics(name: str) -> Statistics | None:
    """Return the statistics of the paper's data set of that name (table 6), or None if the paper has none."""
    values = json.loads(PAPER.read_text(encoding="utf-8"))["datasets"].get(name)
    return Statistics(**values) if values else None
