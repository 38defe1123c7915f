"""`maskgr embed`: compute a vector for each item from its text."""

from __future__ import annotations

from typing import Any

import typer

from maskgr_cli import launch
from maskgr_cli.options import (
    DatasetOption,
    ForceOption,
    GpusOption,
    ProcessesOption,
    WorkspaceOption,
    config_options,
)
from pipelines.embed.config import EmbedConfig
from pipelines.errors import UserError
from pipelines.workspace import Workspace


def register(app: typer.Typer) -> None:
    app.command()(embed)


@config_options(EmbedConfig)
def embed(
    settings: dict[str, Any],
    dataset: DatasetOption = None,
    gpus: GpusOption = None,
    processes: ProcessesOption = None,
    force: ForceOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Turn item texts into embeddings, with LSA or any Hugging Face encoder."""
    config = EmbedConfig(**settings)
    if config.is_lsa and (gpus is not None or processes is not None):
        raise UserError("--gpus and --processes mean nothing to --encoder lsa. Leave them out.")
    data = Workspace.find(workspace).require_dataset(dataset)
    if launch.relaunch(gpus, processes):
        return
    from pipelines.embed.build import build_embeddings
    from pipelines.processes import process_state

    build_embeddings(data, config, launch.progress(), force=force)
    if not config.is_lsa:
        process_state().destroy_process_group()
