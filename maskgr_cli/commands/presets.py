"""`maskgr presets`: list the values of a model's options in each preset."""

from __future__ import annotations

from typing import Annotated

import typer

from maskgr_cli import console
from maskgr_cli.options import worded
from pipelines.models.registry import MODELS
from pipelines.train.configure import preset_values


def register(app: typer.Typer) -> None:
    app.command()(presets)


def presets(model: Annotated[str, typer.Argument(help=f"Model: {', '.join(MODELS)}.")] = "maskgr") -> None:
    """List all options that the training of a model reads, with their values in each preset."""
    values = preset_values(model)
    rows = [
        (
            f"--{option.replace('_', '-')}",
            *(None if preset[option] is None else worded(preset[option]) for preset in values.values()),
        )
        for option in next(iter(values.values()))
    ]
    console.table(
        f"Presets of {model}",
        ["option", *values],
        rows,
        "Any option of `maskgr train` replaces a preset's value.",
    )
