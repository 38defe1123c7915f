"""`maskgr download`: a public data set, ready to embed and train on."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from maskgr_cli import console
from maskgr_cli.commands.import_ import show_statistics
from maskgr_cli.options import ForceOption, WorkspaceOption, config_options
from pipelines.download.config import DownloadConfig
from pipelines.download.sources import DATASETS
from pipelines.workspace import Workspace


def register(app: typer.Typer) -> None:
    app.command()(download)


@config_options(DownloadConfig)
def download(
    settings: dict[str, Any],
    name: Annotated[str, typer.Argument(help=f"Data set: {', '.join(DATASETS)}.")],
    force: ForceOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Fetch a public data set and turn it into user sequences.

    A row that repeats user, item and time of an earlier one is dropped; then users and items with fewer than
    --min-count interactions, until none is left. A user's items stand in order of time; rows of the same time
    keep their order in the file.
    """
    config = DownloadConfig(**settings)
    place = Workspace.find(workspace)
    from pipelines.download.build import download_dataset

    show_statistics(download_dataset(place, name, config, console.RichProgress(), force=force))
