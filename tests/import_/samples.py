"""A small log and catalogue, and what a data set made of them holds."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from pipelines import artifacts
from pipelines.import_.config import ImportConfig
from pipelines.import_.tables import read_tables
from pipelines.prepare.account import Account
from pipelines.prepare.tables import Tables
from pipelines.progress import Silent
from pipelines.workspace import Dataset

ROWS = [
    ("ann", "x", 3),
    ("ann", "y", 1),
    ("bob", "y", 5),
    ("ann", "z", 2),
    ("bob", "x", 4),
    ("bob", "w", 6),
    ("bob", "w", 6),
    ("cy", "x", 1),
]


LOG = pl.DataFrame(ROWS, schema=["user_id", "item_id", "timestamp"], orient="row")


ITEMS = pl.DataFrame(
    {
        "item_id": ["z", "y", "x", "unused"],
        "title": ["Zed", "", "Ex"] + ["-"],
        "tags": [["a", "b"], None, [], ["c"]],
        "price": [1.0] * 4,
    }
)


EXPECTED = {"ann": ["y", "z", "x"], "bob": ["x", "y", "w"]}


def load(dataset: Dataset) -> tuple[dict[str, list[str]], dict[str, str]]:
    """user_id → item_ids in order, and item_id → text."""
    items = artifacts.read(dataset.items, "items")
    names = items["item_id"].to_pylist()
    sequences = artifacts.read(dataset.sequences, "sequences")
    users = dict(zip(sequences["user_id"].to_pylist(), sequences["items"].to_pylist(), strict=True))
    return {u: [names[i] for i in row] for u, row in users.items()}, dict(
        zip(names, items["text"].to_pylist(), strict=True)
    )


def read(
    folder: Path, interactions: str | Path, items: str | None = None, config: ImportConfig | None = None
) -> tuple[Tables, Account]:
    """Read tables from files with these contents, named log and items."""
    paths = {"log": [interactions] if isinstance(interactions, Path) else [], "items": []}
    for name, text in (("log", interactions), ("items", items)):
        if isinstance(text, str):
            paths[name] = [folder / name]
            paths[name][0].write_text(text, encoding="utf-8")
    return read_tables(paths["log"], paths["items"], config or ImportConfig(), Silent())
