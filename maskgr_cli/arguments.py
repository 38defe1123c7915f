"""The command line as it was typed, before any command reads it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from pipelines.errors import UserError
from pipelines.options import printable

LONGEST = 4096  # characters of an argument; no path is longer
UsageError = typer.BadParameter.__mro__[1]  # Click's, whether Typer brings its own or not


class Arguments(TyperGroup):
    """The program: refuses arguments that no option can mean, and shows what was typed with its control characters escaped."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the whole command line; each command reads its part later.

        Raises:
            UserError: an argument is empty, longer than any path, or holds a NUL.
        """
        for before, argument in zip(["", *args], args, strict=False):
            flag, _, value = (
                argument.partition("=")
                if argument.startswith("--") and "=" in argument
                else (before, "", argument)
            )
            named = flag if flag.startswith("--") else "An argument"
            if not value.strip():
                raise UserError(f"{named} is empty. Give it a value or leave it out.")
            if len(value) > LONGEST or "\0" in value:
                raise UserError(f"{named} is no text of at most {LONGEST:,} characters without NUL.")
        return super().parse_args(ctx, args)

    def make_context(self, *given: Any, **named: Any) -> Any:
        with _escaped():
            return super().make_context(*given, **named)

    def invoke(self, ctx: Any) -> Any:
        with _escaped():
            return super().invoke(ctx)


@contextmanager
def _escaped() -> Iterator[None]:
    """Errors about what was typed repeat it; escape that."""
    try:
        yield
    except UsageError as error:
        error.message = printable(error.message)
        raise
