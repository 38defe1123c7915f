"""`maskgr download`: download a public data set."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from maskgr_cli import console
from maskgr_cli.commands.import_ import show_statistics
from maskgr_cli.options import ForceOption, WorkspaceOption, config_options
from pipelines.download.config import DownloadConfig
from pipelines.download.sources import SOURCES
from pipelines.workspace import Workspace


def _list(value: bool) -> None:
    """Print all public data sets with their terms."""
    if not value:
        return
    rows = [(source.name, source.content, source.terms, source.citation) for source in SOURCES]
    console.table("Public data sets", ["data set", "content", "terms", "to be cited"], rows)
    for source in SOURCES:
        if source.categories:
            console.result(f"CATEGORY of {source.name}: {', '.join(source.categories)}")
    raise typer.Exit


def register(app: typer.Typer) -> None:
    app.command()(download)


@config_options(DownloadConfig)
def download(
    settings: dict[str, Any],
    name: Annotated[str, typer.Argument(help="Data set, a name that --list shows.")],
    force: ForceOption = False,
    show_list: Annotated[
        bool,
        typer.Option(
            "--list",
            callback=_list,
            is_eager=True,
            help="Show all data sets with their terms and citations, and exit.",
        ),
    ] = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Download a public data set and turn it into user sequences.

    A row that repeats user, item and time of an earlier row is dropped. Then users and items with fewer than
    --min-count interactions are dropped, until no such user or item is left. The items of a user are sorted
    by time; rows of the same time keep their order in the file.
    """
    config = DownloadConfig(**settings)
    target = Workspace.find(workspace)
    from pipelines.download.build import download_dataset

    show_statistics(download_dataset(target, name, config, console.RichProgress(), force=force))
