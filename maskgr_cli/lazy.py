"""Commands that are imported when they are used, and their help texts.

`maskgr --help` needs the names and summaries of all commands and none of their modules. Help texts are plain
text, which Click's formatter writes: importing Typer's formatter for Rich takes as long as importing Typer.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from maskgr_cli.commands import COMMANDS

NARROWEST = 30  # characters of the column of options in a help text, if an option is that long


class HelpInPanels(TyperCommand):
    """A command whose help lists arguments and options under the titles of their panels."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        panels: dict[str, list[tuple[str, str]]] = {}
        parameters = sorted(self.get_params(ctx), key=lambda p: p.param_type_name)  # arguments first
        for parameter in parameters:
            if record := parameter.get_help_record(ctx):
                default = f"{parameter.param_type_name.capitalize()}s"
                panels.setdefault(getattr(parameter, "rich_help_panel", None) or default, []).append(record)
        for title, records in panels.items():
            with formatter.section(title):
                formatter.write_dl(records, col_max=max(NARROWEST, formatter.width // 3))


class LazyCommand(TyperCommand):
    """Name and summary of a command. The command itself is loaded to parse its arguments."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        return load(self.name or "").make_context(*args, **kwargs)


@functools.cache
def load(name: str) -> TyperCommand | TyperGroup:
    """Return a command of `COMMANDS`, or a group of commands; its module is imported."""
    group: Any = typer.main.get_group(registered(COMMANDS[name][0]))
    return group.commands[name]


@functools.cache
def registered(module: str) -> typer.Typer:
    """Return an app with the commands of a module of `maskgr_cli.commands`."""
    app = typer.Typer(rich_markup_mode=None)
    importlib.import_module(f"maskgr_cli.commands.{module}").register(app)
    for part in (app, *(group.typer_instance for group in app.registered_groups)):
        for command in part.registered_commands if part else ():
            command.cls = HelpInPanels
    return app


def lazy_commands() -> dict[str, Any]:
    """Return a `LazyCommand` for each command, by name."""
    return {name: LazyCommand(name, short_help=summary) for name, (_, summary) in COMMANDS.items()}
