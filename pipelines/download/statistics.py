"""The statistics of a data set, as the paper's table 6 gives them. Reads artifacts only."""

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
    """How large and how sparse a data set is."""

    users: int
    items: int
    interactions: int

    @property
    def average_length(self) -> float:
        """Interactions per user."""
        return self.interactions / self.users

    @property
    def sparsity(self) -> float:
        """Share of user–item pairs without an interaction."""
        return 1 - self.interactions / (self.users * self.items)


def statistics(dataset: Dataset) -> Statistics:
    """Count what the artifacts of a data set hold.

    Raises:
        UserError: they are missing or unreadable.
    """
    sequences = artifacts.read(dataset.sequences, "sequences")
    items = artifacts.read(dataset.items, "items", columns=["item"])
    return Statistics(len(sequences), len(items), pc.sum(pc.list_value_length(sequences["items"])).as_py())


def paper_statistics(name: str) -> Statistics | None:
    """The paper's figures for a data set of that name (table 6), None where it has none."""
    found = json.loads(PAPER.read_text(encoding="utf-8"))["datasets"].get(name)
    return Statistics(**found) if found else None
