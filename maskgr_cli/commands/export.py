"""`maskgr export`: a trained run as a bundle, a folder that other machines and programs load."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from maskgr_cli import console, launch
from maskgr_cli.options import WorkspaceOption, checked, config_options
from pipelines.bundle.config import BundleConfig
from pipelines.options import check_path
from pipelines.workspace import Workspace


def register(app: typer.Typer) -> None:
    app.command()(export)


@config_options(BundleConfig)
def export(
    settings: dict[str, Any],
    output: Annotated[Path, checked("--output", "Folder of the bundle.", check_path)],
    run: Annotated[str | None, typer.Argument(help="Run.", show_default="the newest")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace another bundle in that folder.")] = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Export a trained run into a folder that other machines and programs load, and upload it.

    The folder, a bundle, holds weights, configuration, catalogue, semantic IDs, codebooks, encoder and a
    model card, and neither users nor interactions. Where a run has a final run (maskgr train --final RUN),
    the final run is exported. Data sets for other programs are written by: maskgr data export.
    """
    config = BundleConfig(**settings)
    store = Workspace.find(workspace)
    from pipelines.bundle.build import export_run
    from pipelines.recommend.load import choose_final

    progress = launch.progress()
    chosen = choose_final(store, store.require_run(run), progress)
    export_run(store, chosen, output, config, progress, force=force)
    if config.push is not None:
        from pipelines.bundle.hub import push

        progress.say(f"Uploading to {config.push} …")
        console.result(push(output, config.push, config.private))
        console.note(f'Next: maskgr recommend hf:{config.push} --like TEXT; maskgr.load("hf:{config.push}")')
    else:
        console.result(str(output))
        console.note(f'Next: maskgr recommend {output} --like TEXT; maskgr.load("{output}")')
