"""`maskgr embed`: give each item a vector."""

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
from pipelines.embed.config import TRANSFORMER, EmbedConfig
from pipelines.errors import UserError, enough_memory


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
    """Turn items into embeddings: from their texts, their interactions or vectors of another program."""
    config = EmbedConfig(**settings)
    if config.kind != TRANSFORMER and (gpus is not None or processes is not None):
        origin = "--from" if config.source else f"--encoder {config.encoder}"
        raise UserError(f"--gpus and --processes mean nothing to {origin}. Leave them out.")
    data = launch.find_workspace(workspace).require_dataset(dataset)
    if launch.relaunch(gpus, processes):
        return
    from pipelines.embed.build import build_embeddings, choose_encoder

    if not {"encoder", "source"} & settings.keys():
        config = EmbedConfig(**settings, encoder=choose_encoder(data, launch.progress()))
    options = "--batch-size or --max-length" if config.kind == TRANSFORMER else "--dimensions"
    with enough_memory(f"embed {data.name}", f"Lower {options}."):
        if config.kind == TRANSFORMER:
            build_embeddings(data, config, launch.progress(), force=force)
        else:
            launch.by_first(lambda: build_embeddings(data, config, launch.progress(), force=force))
