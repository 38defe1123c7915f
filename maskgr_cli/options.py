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

from pipelines.errors import UserError
from pipelines.options import check_number, flag_of
from pipelines.workspace import checked_name


def checked(flag: str, help: str, check: Callable[..., None], *bounds: Any, **shown: Any) -> Any:
    """An option of a command's own; a value that is given must pass `check(flag, value, *bounds)`."""

    def passed(value: Any) -> Any:
        if value is not None:
            check(flag, value, *bounds)
        return value

    return typer.Option(flag, help=help, callback=passed, **shown)


def check_name(flag: str, name: str) -> None:
    """Refuse what cannot be an artifact's name."""
    try:
        checked_name(name)
    except UserError as error:
        raise UserError(f"{flag}: {error}") from None


WorkspaceOption = Annotated[
    Path | None,
    typer.Option(
        "--workspace", envvar="MASKGR_WORKSPACE", help="Folder of all artifacts.", show_default="./data"
    ),
]
DatasetOption = Annotated[
    str | None,
    typer.Option("--dataset", help="Data set.", show_default="the one last downloaded or imported"),
]
ForceOption = Annotated[bool, typer.Option("--force", help="Make it again even where it is up to date.")]
GpusOption = Annotated[
    int | None,
    checked(
        "--gpus",
        "GPUs to use, a process each; 0: the CPU.",
        check_number,
        0,
        1024,
        show_default="the one GPU there is",
    ),
]
ProcessesOption = Annotated[
    int | None, checked("--processes", "Processes on the CPU.", check_number, 1, 1024, show_default="one")
]


def config_options(
    *configs: type, presets: dict[str, dict[str, Any]] | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command one option per field of frozen dataclasses; what is not typed is not passed on.

    The command takes a parameter `settings: dict[str, Any]` that holds just the options that were typed, so
    presets and defaults stay in one place. The fields are those declared with `pipelines.options.option`.

    Args:
        *configs: the dataclasses; their modules must import quickly. A field that several have is one option, shown under
            their names (`name`) where not all have it.
        presets: name → field name → value; a field's are shown with its help text.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [
            p
            for name, p in inspect.signature(command, eval_str=True).parameters.items()
            if name != "settings"
        ]
        taken = {p.name for p in own}
        fields = {
            field.name: (field, typing.get_type_hints(config)[field.name])
            for config in configs
            for field in dataclasses.fields(config)
            if field.name not in taken and "help" in field.metadata
        }
        added = [
            _parameter(field, kind, _panel(name, configs), in_presets(name, presets or {}))
            for name, (field, kind) in fields.items()
        ]

        @functools.wraps(command)
        def wrapper(**given: Any) -> None:
            settings = {name: given.pop(name) for name in fields}
            command(**given, settings={k: v for k, v in settings.items() if v is not None})

        wrapper.__signature__ = inspect.Signature([*own, *added])  # type: ignore[attr-defined]
        return wrapper

    return decorate


def swept_options(kinds: dict[str, dict[str, Any]]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command one option per name, each a list as text; those that were typed arrive as `settings: dict[str, str]`.

    Args:
        kinds: whose options they are → option → anything.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [
            p
            for name, p in inspect.signature(command, eval_str=True).parameters.items()
            if name != "settings"
        ]
        taken = {p.name for p in own}
        panels: dict[str, str] = {}
        for kind, options in kinds.items():
            panels |= {name: f"Lists for {kind}" for name in options if name not in taken | panels.keys()}

        def option(name: str, panel: str) -> inspect.Parameter:
            shown = typer.Option(
                f"--{name.replace('_', '-')}", show_default=False, rich_help_panel=panel, metavar="A,B,…"
            )
            return inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[str | None, shown]
            )

        @functools.wraps(command)
        def wrapper(**given: Any) -> None:
            typed = {name: value for name in panels if (value := given.pop(name)) is not None}
            command(**given, settings=typed)

        wrapper.__signature__ = inspect.Signature([*own, *map(option, *zip(*panels.items(), strict=True))])  # type: ignore[attr-defined]
        return wrapper

    return decorate


def _panel(name: str, configs: tuple[type, ...]) -> str:
    """Where the help shows the option of a field."""
    named = [config for config in configs if hasattr(config, "name")]
    having = [config.name for config in named if name in {field.name for field in dataclasses.fields(config)}]
    return "Hyperparameters" + (f" of {', '.join(having)}" if 0 < len(having) < len(named) else "")


def in_presets(name: str, presets: dict[str, dict[str, Any]]) -> str:
    """The values of a field in presets, as a help text ends: " [paper: 8; small: 2; smoke: 1]", or " [default: 1]" where all agree."""
    having = {preset: values[name] for preset, values in presets.items() if values.get(name) is not None}
    if len(having) == len(presets) and len({*map(str, having.values())}) == 1:
        having = {"default": next(iter(having.values()))}
    return (
        f" [{'; '.join(f'{preset}: {worded(value)}' for preset, value in having.items())}]" if having else ""
    )


def worded(value: Any) -> str:
    """An option's value as a person reads it: yes, no, 200,000, 0.25."""
    return (
        ("yes" if value else "no")
        if isinstance(value, bool)
        else f"{value:,}"
        if isinstance(value, int)
        else f"{value}"
    )


def _parameter(field: dataclasses.Field, kind: Any, panel: str, values: str) -> inspect.Parameter:
    flag = flag_of(field)
    if bool in (kind, *typing.get_args(kind)):
        flag = f"{flag}/--no-{flag.removeprefix('--')}"
    shown = typer.Option(
        flag, help=field.metadata["help"] + values, show_default=False, rich_help_panel=panel
    )
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, shown]
    )
