"""`maskgr import`: make a data set from the user's own files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maskgr_cli import console
from maskgr_cli.options import ForceOption, WorkspaceOption, checked, config_options
from pipelines.import_.config import ImportConfig
from pipelines.options import check_path
from pipelines.workspace import Workspace

if TYPE_CHECKING:
    from pipelines.download.statistics import Statistics
    from pipelines.workspace import Dataset


def register(app: typer.Typer) -> None:
    app.command("import")(import_)


def check_paths(flag: str, paths: list[Path]) -> None:
    """Check that paths can be looked up, see `check_path`."""
    for path in paths:
        check_path(flag, path)


@config_options(ImportConfig)
def import_(
    settings: dict[str, Any],
    name: Annotated[str, typer.Argument(help="Name of the data set.")],
    interactions: Annotated[
        list[Path],
        checked(
            "--interactions",
            "File, folder or pattern of files with users, items and times, in any known format; repeatable.",
            check_paths,
        ),
    ],
    items: Annotated[
        list[Path] | None,
        checked("--items", "The same with items and their texts.", check_paths, show_default="none"),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be taken, and write nothing.")
    ] = False,
    force: ForceOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Make a data set of your own interactions and items.

    Formats, encodings, separators and columns are found and reported. A row that repeats user, item and time
    of an earlier row is dropped. Then users and items with fewer than --min-count interactions are dropped,
    until no such user or item is left. The items of a user are sorted by time.
    """
    config = ImportConfig(**settings)
    target = Workspace.find(workspace)
    target.dataset(name)  # refuses an invalid name before any work
    from pipelines.import_.build import examine, import_dataset

    progress, paths = console.RichProgress(), {"interactions": interactions, "items": items or []}
    if dry_run:
        account = examine(target, name, config, progress, **paths)
        for line in account.full():
            console.result(line)
        console.note("Nothing is written (--dry-run).")
        return
    dataset = import_dataset(target, name, config, progress, **paths, force=force)
    if config.update:
        from pipelines.grow.grow import grow

        grow(dataset, progress)
    show_statistics(dataset)


def show_statistics(dataset: Dataset) -> None:
    """Print the statistics of a data set, those of the paper (table 6) if there are any, and the folder."""
    from pipelines.download.statistics import paper_statistics, statistics

    ours, paper = statistics(dataset), paper_statistics(dataset.name)
    rows: list[tuple[str | None, ...]] = [_row(dataset.name, ours)]
    if paper:
        rows.append(_row("paper, table 6", paper))
        differences = (
            ours.users - paper.users,
            ours.items - paper.items,
            ours.interactions - paper.interactions,
        )
        rows.append(("difference", *(f"{d:+,}" if d else "0" for d in differences), None, None))
    console.table("Data set", ["", "users", "items", "interactions", "average length", "sparsity"], rows)
    console.note(f"Data set: {dataset.path}. Next: maskgr train --dataset {dataset.name}")


def _row(name: str, statistics: Statistics) -> tuple[str, ...]:
    counts = (statistics.users, statistics.items, statistics.interactions)
    return (
        name,
        *(f"{count:,}" for count in counts),
        f"{statistics.average_length:.2f}",
        f"{statistics.sparsity:.2%}",
    )
