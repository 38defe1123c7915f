"""`maskgr serve`: the HTTP service of a trained run."""

from __future__ import annotations

import importlib.util
from typing import Annotated, Any

import typer

from maskgr_cli import launch
from maskgr_cli.allocator import keep_freed_memory
from maskgr_cli.options import WorkspaceOption, config_options
from pipelines.errors import UserError
from pipelines.serve.config import ServeConfig
from pipelines.workspace import Workspace

PACKAGES = ("fastapi", "uvicorn", "prometheus_client")  # of the extra `serve`


def register(app: typer.Typer) -> None:
    app.command()(serve)


@config_options(ServeConfig)
def serve(
    settings: dict[str, Any],
    run: Annotated[
        str | None,
        typer.Argument(help="Run, folder of a bundle, or hf:OWNER/NAME.", show_default="the newest"),
    ] = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Serve the recommendations of a run or bundle over HTTP.

    A bundle is made by maskgr export. Where a run has a final run (maskgr train --final RUN), the final run
    recommends. SIGHUP loads the run again without losing a request; SIGTERM ends after the requests in
    progress.
    """
    config = ServeConfig(**settings)
    if missing := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
        raise UserError(
            f"maskgr serve needs packages that are not installed ({', '.join(missing)}). Install them with: "
            'pip install "maskgr[serve]"'
        )
    store = Workspace.find(workspace)
    keep_freed_memory()
    from pipelines.serve.server import serve as serve_run

    serve_run(run, store.root, config, launch.progress())
