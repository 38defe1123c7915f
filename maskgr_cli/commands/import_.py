"""`maskgr import`: make a data set from the user's own files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maskgr_cli import console
from maskgr_cli.options import ForceOption, WorkspaceOption, checked, config_options
from pipelines.errors import UserError
from pipelines.import_.config import LISTED, ImportConfig
from pipelines.options import check_path, has_no_effect
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
        list[Path] | None,
        checked(
            "--interactions",
            "File, folder or pattern of files with users, items and times, in any known format; repeatable.",
            check_paths,
            show_default="none",
        ),
    ] = None,
    items: Annotated[
        list[Path] | None,
        checked("--items", "The same with items and their texts.", check_paths, show_default="none"),
    ] = None,
    sequences: Annotated[
        Path | None,
        checked(
            "--sequences",
            "Folder of Parquet files of another program with a row for each user: the user, and the list of "
            "the user's items in order of time. The files stay where they are.",
            check_path,
            show_default="none",
        ),
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
    progress = console.RichProgress()
    if sequences is not None:
        _check_listed(settings, {"--interactions": interactions, "--dry-run": dry_run}, items)
        from pipelines.import_.listed import import_sequences

        listed = import_sequences(
            *(target, name, config, progress), sequences=sequences, items=items or [], force=force
        )
        show_statistics(listed)
        return
    if not interactions:
        raise UserError("There is nothing to import. Give files with --interactions, or --sequences.")
    from pipelines.import_.build import examine, import_dataset

    paths = {"interactions": interactions, "items": items or []}
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


def _check_listed(settings: dict[str, Any], given: dict[str, Any], items: list[Path] | None) -> None:
    """Refuse options that have no effect on sequences of another program, and missing items.

    Args:
        settings: fields of `ImportConfig` that are given.
        given: flags of the command's own options, with their values.
        items: files of items.

    Raises:
        UserError: one is given, or the items are missing.
    """
    flags = [flag for flag, value in given.items() if value]
    flags += [f"--{name.replace('_', '-')}" for name in settings if name not in LISTED]
    if flags:
        raise has_no_effect(flags, "--sequences", "which are taken as they are")
    if not items:
        raise UserError("--sequences needs the items that the lists hold. Give their file with --items.")


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
