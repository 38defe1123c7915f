"""Statistics of a data set, as in table 6 of the paper. Only artifacts are read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc

from pipelines import artifacts
from pipelines.workspace import Dataset

PAPER = Path(__file__).parent / "table6.json"


@dataclass(frozen=True)
class Statistics:
    """Size and sparsity of a data set."""

    users: int
    items: int
    interactions: int

    @property
    def average_length(self) -> float:
        """Number of interactions per user."""
        return self.interactions / self.users

    @property
    def sparsity(self) -> float:
        """Share of user–item pairs without an interaction."""
        return 1 - self.interactions / (self.users * self.items)


def statistics(dataset: Dataset) -> Statistics:
    """Count the users, items and interactions of a data set.

    Raises:
        UserError: an artifact is missing or unreadable.
    """
    sequences = artifacts.read(dataset.sequences, "sequences")
    items = artifacts.read(dataset.items, "items", columns=["item"])
    return Statistics(len(sequences), len(items), pc.sum(pc.list_value_length(sequences["items"])).as_py())


def paper_statistics(name: str) -> Statistics | None:
    """Return the statistics of the paper's data set of that name (table 6), or None if the paper has none."""
    values = json.loads(PAPER.read_text(encoding="utf-8"))["datasets"].get(name)
    return Statistics(**values) if values else None
