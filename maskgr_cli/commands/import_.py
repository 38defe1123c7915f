"""`maskgr import`: a data set from a person's own files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maskgr_cli import console
from maskgr_cli.options import ForceOption, WorkspaceOption, checked, config_options
from pipelines.download.config import ImportConfig
from pipelines.options import check_path
from pipelines.workspace import Workspace

if TYPE_CHECKING:
    from pipelines.workspace import Dataset


def register(app: typer.Typer) -> None:
    app.command("import")(import_)


@config_options(ImportConfig)
def import_(
    settings: dict[str, Any],
    name: Annotated[str, typer.Argument(help="What to call the data set.")],
    interactions: Annotated[
        Path, checked("--interactions", "CSV, TSV, JSON Lines or Parquet: users, items, times.", check_path)
    ],
    items: Annotated[
        Path | None,
        checked("--items", "The same formats: items and their texts.", check_path, show_default="none"),
    ] = None,
    force: ForceOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Make a data set of your own interactions and items.

    A row that repeats user, item and time of an earlier one is dropped; then users and items with fewer than
    --min-count interactions, until none is left. A user's items stand in order of time; rows of the same time
    keep their order in the file.
    """
    config = ImportConfig(**settings)
    place = Workspace.find(workspace)
    place.dataset(name)  # refuse an impossible name at once
    from pipelines.import_.build import import_dataset

    show_statistics(
        import_dataset(
            place, name, config, console.RichProgress(), interactions=interactions, items=items, force=force
        )
    )


def show_statistics(dataset: Dataset) -> None:
    """Print a data set's statistics, beside the paper's (table 6) where it has them, and where it lies."""
    from pipelines.download.statistics import paper_statistics, statistics

    found, paper = statistics(dataset), paper_statistics(dataset.name)
    rows = [_row(dataset.name, found)] + ([_row("paper, table 6", paper)] if paper else [])
    if paper:
        differences = (
            found.users - paper.users,
            found.items - paper.items,
            found.interactions - paper.interactions,
        )
        rows.append(("difference", *(f"{d:+,}" if d else "0" for d in differences), None, None))
    console.table("Data set", ["", "users", "items", "interactions", "average length", "sparsity"], rows)
    console.note(f"Data set: {dataset.path}. Next: maskgr train --dataset {dataset.name}")


def _row(name: str, found: Any) -> tuple[str, ...]:
    counts = (f"{count:,}" for count in (found.users, found.items, found.interactions))
    return (name, *counts, f"{found.average_length:.2f}", f"{found.sparsity:.2%}")
