"""`maskgr data export`: write a prepared data set for another program."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from maskgr_cli import console
from maskgr_cli.options import WorkspaceOption, checked, config_options
from pipelines.export.config import ExportConfig
from pipelines.options import check_path
from pipelines.workspace import Workspace


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="Exchange data sets with other programs.", no_args_is_help=True)
    group.command()(export)
    app.add_typer(group, name="data")


@config_options(ExportConfig)
def export(
    settings: dict[str, Any],
    name: Annotated[str, typer.Argument(help="Name of the data set.")],
    output: Annotated[Path, checked("--output", "Folder of the files.", check_path)],
    workspace: WorkspaceOption = None,
) -> None:
    """Write a data set for another program: the same users, items and interactions, ready to compare.

    Identifiers are those of the import. The column position is the place of an interaction in the user's
    sequence. Users' last items are for testing and those before for validation.
    """
    config = ExportConfig(**settings)
    dataset = Workspace.find(workspace).require_dataset(name)
    from pipelines.export.build import export_dataset

    for path in export_dataset(dataset, config, output):
        console.result(str(path))
    console.note("Measure the lists of the other program with: maskgr eval --recommendations FILE")
