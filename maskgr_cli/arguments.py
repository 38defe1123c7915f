"""Check of the command line before a command reads it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from maskgr_cli.lazy import lazy_commands
from pipelines.errors import UserError
from pipelines.options import printable

MAX_LENGTH = 4096  # characters of an argument; no path is longer
UsageError: Any = typer.BadParameter.__mro__[1]  # of Click, or of the copy of Click inside Typer


class Arguments(TyperGroup):
    """Group of all commands.

    The group refuses arguments that are invalid for every option. It escapes control characters in messages
    that repeat an argument.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{**settings, "commands": lazy_commands()})

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Check the whole command line, then parse the part of the group; each command parses its own part
        later.

        Raises:
            UserError: An argument is empty, longer than any path, or contains a NUL character.
        """
        for previous, argument in zip(["", *args], args, strict=False):
            flag, value = previous, argument
            if argument.startswith("--") and "=" in argument:
                flag, _, value = argument.partition("=")
            named = flag if flag.startswith("--") else "An argument"
            if not value.strip():
                raise UserError(f"{named} is empty. Give it a value or leave it out.")
            if len(value) > MAX_LENGTH or "\0" in value:
                raise UserError(f"{named} must be text of at most {MAX_LENGTH:,} characters without NUL.")
        for parameter in self.get_params(
            ctx
        ):  # Typer would load pydantic to convert the None of a flag to None
            if getattr(parameter, "is_flag", False) and parameter.default is None:
                parameter.default = False
        return super().parse_args(ctx, args)

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        with _escaped_errors():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        with _escaped_errors():
            return super().invoke(ctx)


@contextmanager
def _escaped_errors() -> Iterator[None]:
    """Escape control characters in the messages of usage errors."""
    try:
        yield
    except UsageError as error:
        if type(error).__name__ != "NoArgsIsHelpError":  # its message is the help text
            error.message = printable(error.message)
        raise
