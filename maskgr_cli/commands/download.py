"""`maskgr download`: download a public data set."""

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
    """Download a public data set and turn it into user sequences.

    A row that repeats user, item and time of an earlier row is dropped. Then users and items with fewer than
    --min-count interactions are dropped, until no such user or item is left. The items of a user are sorted
    by time; rows of the same time keep their order in the file.
    """
    config = DownloadConfig(**settings)
    target = Workspace.find(workspace)
    from pipelines.download.build import download_dataset

    show_statistics(download_dataset(target, name, config, console.RichProgress(), force=force))
