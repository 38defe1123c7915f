"""`maskgr rename`: give a run or a data set another name."""

from __future__ import annotations

from typing import Annotated

import typer

from maskgr_cli import console
from maskgr_cli.options import WorkspaceOption
from pipelines.workspace import Workspace


def register(app: typer.Typer) -> None:
    app.command()(rename)


def rename(
    old: Annotated[str, typer.Argument(help="runs/RUN or datasets/NAME.", show_default=False)],
    new: Annotated[str, typer.Argument(help="New name, without runs/ or datasets/.", show_default=False)],
    workspace: WorkspaceOption = None,
) -> None:
    """Rename a run or a data set, with everything that refers to it by name.

    Runs, studies, evaluations and comparisons that name it get the new name, all or nothing. Reports are
    records of the past and keep the old one.
    """
    store = Workspace.find(workspace)
    from pipelines.housekeeping.rename import rename as rename_part

    rename_part(store, old, new, console.RichProgress())
    console.note(f"Renamed {old} to {new}.")
