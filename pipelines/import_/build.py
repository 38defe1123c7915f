"""Stage "import": the user's own files become the artifacts interactions, items and sequences."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import polars as pl

from pipelines.errors import UserError
from pipelines.import_.config import ImportConfig
from pipelines.import_.tables import read_interactions, read_items
from pipelines.prepare.dataset import is_current, prepare
from pipelines.prepare.tables import Tables
from pipelines.progress import Progress
from pipelines.workspace import Dataset, Workspace


def import_dataset(
    workspace: Workspace,
    name: str,
    config: ImportConfig,
    progress: Progress,
    *,
    interactions: Path,
    items: Path | None = None,
    force: bool = False,
) -> Dataset:
    """Make a data set from the user's own files, and make it the current data set.

    Args:
        name: name of the data set.
        interactions: file with one row per interaction: user, item, and time or position.
        items: file with one row per item; None if items have no text.
        force: read the files again even if nothing changed.

    Raises:
        UserError: a file or a column cannot be used; the message names it and says what to do.
    """
    dataset = workspace.dataset(name)
    inputs = {"interactions": interactions} | ({"items": items} if items else {})
    for path in inputs.values():
        if not path.is_file():
            raise UserError(f"{path} does not exist or is not a file. Check --interactions and --items.")
    if config.text_columns and items is None:
        raise UserError(
            f"--text-columns {config.text_columns} names columns of an items file. Give it with --items."
        )
    recorded = dataclasses.asdict(config) | {"items": items is not None}
    if not is_current(dataset, recorded, inputs, force, progress):
        tables = _read(interactions, items, config, progress)
        prepare(
            dataset, tables, min_count=config.min_count, config=recorded, inputs=inputs, progress=progress
        )
    workspace.use(name)
    return dataset


def _read(interactions: Path, items: Path | None, config: ImportConfig, progress: Progress) -> Tables:
    table = read_interactions(interactions, config)
    if items is not None:
        return Tables(table, *read_items(items, config))
    progress.say(
        "No items file: items have no text, so they need embeddings of your own or a model without semantic "
        "IDs."
    )
    return Tables(table, pl.DataFrame({"item_id": []}, schema={"item_id": pl.String}), [])
