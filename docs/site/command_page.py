"""The page of commands, from the declarations that the command line is made of."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer

from maskgr_cli.app import app
from maskgr_cli.commands import COMMANDS
from maskgr_cli.lazy import load
from maskgr_cli.options import bounds_of

HEAD = """# Commands

Generated from the program: every command, its arguments and its options, with default and bounds.
`maskgr COMMAND --help` prints the same in a terminal. [install.md](install.md#exit-codes) lists the exit
codes.
"""


def command_page() -> str:
    """Return the page: a section for each command, in the order of the pipeline."""
    root: Any = typer.main.get_command(app)
    parts = [HEAD, "## Options before the command\n", *_table(root, root.context_class(root))]
    for name in COMMANDS:
        command: Any = load(name)
        parts += _section(command, root.context_class(command, info_name=f"maskgr {name}"), 2)
    return "\n".join(parts)


def _section(command: Any, context: Any, level: int) -> Iterator[str]:
    """Yield the lines of a command, or of a group and its commands."""
    yield f"{'#' * level} {context.info_name}\n"
    yield f"{_text(command.help or command.short_help or '')}\n"
    yield f"`{context.info_name} {' '.join(command.collect_usage_pieces(context))}`\n"
    yield from _table(command, context)
    for name, part in getattr(command, "commands", {}).items():
        inner = context.__class__(part, info_name=f"{context.info_name} {name}")
        yield from _section(part, inner, level + 1)


def _table(command: Any, context: Any) -> Iterator[str]:
    """Yield the lines of the table of parameters."""
    rows = [row for parameter in command.params if (row := _row(command, parameter, context))]
    if rows:
        yield "| option | meaning | bounds |\n| --- | --- | --- |"
        yield from rows
    yield ""


def _row(command: Any, parameter: Any, context: Any) -> str | None:
    """Return the row of an option or argument; None for what help does not show either."""
    record = parameter.get_help_record(context)
    if record is None or "--help" in parameter.opts:
        return None
    low, high = bounds_of(command, parameter) or ("", "")
    bounds = f"{low:,} to {high:,}" if high != "" else ""
    return f"| {_code(record[0])} | {_cell(record[1])} | {bounds} |"


def _code(text: str) -> str:
    return "`" + text.replace("|", "\\|") + "`"


def _cell(text: str) -> str:
    return _text(text).replace("|", "\\|").replace("\n", " ")


def _text(text: str) -> str:
    """Return a help text as Markdown that shows it as it is; words in capitals and flags stay text."""
    plain = re.sub(r"([<>*_\[\]])", r"\\\1", text)
    return re.sub(r" {2,}", " ", plain)
