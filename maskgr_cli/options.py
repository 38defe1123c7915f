"""Options that several commands share, and options made from the fields of configuration dataclasses."""

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
from pipelines.names import checked_name
from pipelines.options import check_number, flag_of


def checked(flag: str, help: str, check: Callable[..., None], *bounds: Any, **shown: Any) -> Any:
    """Return an option of one command; a value that is given must pass `check(flag, value, *bounds)`."""

    def checked_value(value: Any) -> Any:
        if value is not None:
            check(flag, value, *bounds)
        return value

    if check is check_number:
        checked_value.bounds = bounds  # type: ignore[attr-defined]  # see `bounds_of`
    return typer.Option(flag, help=help, callback=checked_value, **shown)


def bounds_of(command: Any, parameter: Any) -> tuple[Any, Any] | None:
    """Return the smallest and the largest number that an option of a command takes; None if it has none."""
    declared = getattr(command.callback, "bounds", {}).get(parameter.name)
    return declared or getattr(parameter.callback, "bounds", None)


def check_name(flag: str, name: str) -> None:
    """Check that a name can be an artifact's.

    Raises:
        UserError: it cannot; the message names the flag.
    """
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
ForceOption = Annotated[bool, typer.Option("--force", help="Make it again even if it is up to date.")]
GpusOption = Annotated[
    int | None,
    checked(
        "--gpus",
        "Number of GPUs, a process each; 0: the CPU.",
        check_number,
        0,
        1024,
        show_default="the one GPU there is",
    ),
]
ProcessesOption = Annotated[
    int | None,
    checked("--processes", "Number of processes on the CPU.", check_number, 1, 1024, show_default="one"),
]


def config_options(
    *configs: type, presets: dict[str, dict[str, Any]] | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command one option per field of frozen dataclasses.

    The command takes a parameter `settings: dict[str, Any]` that holds only the options that the user gives,
    so that presets and defaults stay in one place. The fields are those declared with
    `pipelines.options.option`.

    Args:
        *configs: dataclasses; their modules must import quickly. A field that several of them have is one
            option; the help shows it under their names (`name`) if not all have it.
        presets: name → field → value, which the help shows with each option.
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
        declared = {name: field.metadata for name, (field, _) in fields.items()}
        wrapper.bounds = {  # type: ignore[attr-defined]  # see `bounds_of`
            name: (its["low"], its["high"]) for name, its in declared.items() if its["low"] is not None
        }
        return wrapper

    return decorate


def swept_options(kinds: dict[str, dict[str, Any]]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command one option per name, each a list as text; the given ones arrive as `settings: dict[str,
    str]`.

    Args:
        kinds: kind of options → name of the option → anything.
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
    """Return the title of the panel in which the help shows the option of a field."""
    named = [config for config in configs if hasattr(config, "name")]
    having = [config.name for config in named if name in {field.name for field in dataclasses.fields(config)}]
    return "Hyperparameters" + (f" of {', '.join(having)}" if 0 < len(having) < len(named) else "")


def in_presets(name: str, presets: dict[str, dict[str, Any]]) -> str:
    """Return the end of a help text with the values of a field in presets.

    It is " [paper: 8; small: 2; smoke: 1]", or " [default: 1]" if all presets agree.
    """
    having = {preset: values[name] for preset, values in presets.items() if values.get(name) is not None}
    if len(having) == len(presets) and len({*map(str, having.values())}) == 1:
        having = {"default": next(iter(having.values()))}
    return (
        f" [{'; '.join(f'{preset}: {worded(value)}' for preset, value in having.items())}]" if having else ""
    )


def worded(value: Any) -> str:
    """Return an option's value for a reader: yes, no, 200,000, 0.25."""
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
