"""Options that several commands share, and the one way to make options of a configuration dataclass."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

WorkspaceOption = Annotated[
    Path | None,
    typer.Option("--workspace", envvar="MASKGR_WORKSPACE", help="Folder of all artifacts. [default: ./data]", show_default=False),
]
DatasetOption = Annotated[
    str | None, typer.Option("--dataset", help="Data set. [default: the one last downloaded or imported]", show_default=False)
]
RunOption = Annotated[str | None, typer.Option("--run", help="Training run. [default: the newest]", show_default=False)]
SeedOption = Annotated[int, typer.Option("--seed", help="Seed of all randomness.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Make it again even where it is up to date.")]


def config_options(config: type, **renamed: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command one option per field of a frozen dataclass; what is not typed is not passed on.

    The command takes a parameter `settings: dict[str, Any]` that holds just the options that were typed, so
    presets and defaults stay in one place. A field's `metadata["help"]` is its help text.

    Args:
        config: the dataclass; its module must import quickly.
        **renamed: field name → option, where they differ, e.g. `layers="--sids"`.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        hints = typing.get_type_hints(config)
        own = [p for name, p in inspect.signature(command, eval_str=True).parameters.items() if name != "settings"]
        taken = {p.name for p in own}
        fields = [f for f in dataclasses.fields(config) if f.name not in taken and "help" in f.metadata]
        added = [_parameter(field, hints[field.name], renamed.get(field.name)) for field in fields]

        @functools.wraps(command)
        def wrapper(**given: Any) -> None:
            settings = {f.name: given.pop(f.name) for f in fields}
            command(**given, settings={k: v for k, v in settings.items() if v is not None})

        wrapper.__signature__ = inspect.Signature([*own, *added])  # type: ignore[attr-defined]
        return wrapper

    return decorate


def _parameter(field: dataclasses.Field, kind: Any, option: str | None) -> inspect.Parameter:
    name = field.name.replace("_", "-")
    flags = [option or f"--{name}"] if kind is not bool else [f"--{name}/--no-{name}"]
    plain = next((k for k in typing.get_args(kind) if k is not type(None)), kind)  # `float | None` → float
    annotation = Annotated[
        plain | None, typer.Option(*flags, help=field.metadata["help"], show_default=False, rich_help_panel="Hyperparameters")
    ]
    return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
