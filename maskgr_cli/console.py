"""Terminal output with Rich: tables, progress bars, notes and errors. No other file decides how output looks.

Results (tables) go to standard output. Progress, notes and errors go to standard error, so that
`maskgr eval > table.txt` contains the table alone. Names, values and texts of files are untrusted: characters
that a terminal would interpret (escape sequences, control characters, writing directions) are escaped, and a
line break in a value does not begin a line. Only data for programs stays as it is in a file or a pipe.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.errors import UserError
from pipelines.options import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn, TaskID
    from rich.text import Text

# Environment variable of processes that `launch.relaunch` starts: the folder for their error messages.
WORKER_ERRORS = "MASKGR_WORKER_ERRORS"
QUIET = "MASKGR_QUIET"  # environment variable; 1: progress and notes are not shown
FILE_WIDTH = 160  # columns of a table in a file or a pipe


@functools.cache
def out() -> Console:
    """Return the console of results, standard output."""
    console = _console()
    if not sys.stdout.isatty() and "COLUMNS" not in os.environ:
        console.width = FILE_WIDTH
    return console


@functools.cache
def err() -> Console:
    """Return the console of progress, notes and errors, standard error."""
    return _console(stderr=True, soft_wrap=True)


def _console(stderr: bool = False, soft_wrap: bool = False) -> Console:
    """Return a console that prints brackets and colons as they are: names and paths may contain them."""
    from rich.console import Console  # a help text needs none of Rich

    return Console(highlight=False, markup=False, emoji=False, stderr=stderr, soft_wrap=soft_wrap)


def _text(text: str = "") -> Text:
    from rich.text import Text

    return Text(text)


def error(message: str) -> None:
    """Print an error in one line: a red "error:" and the message.

    A process that `launch.relaunch` started writes the message to a file for its parent, so that several
    processes print one error.
    """
    if folder := os.environ.get(WORKER_ERRORS):
        Path(folder, os.environ["RANK"]).write_text(message, encoding="utf-8")
        return
    err().print(_text().append("error: ", "bold red").append(printable(message)))


def debug(traceback: str) -> None:
    """Print the traceback of an error."""
    err().print(_text(printable(traceback, lines=True).rstrip("\n")))


def note(message: str) -> None:
    """Print a line about an action or a choice, unless the user wants results and errors only."""
    if not is_quiet():
        err().print(_text(printable(message)))


def is_quiet() -> bool:
    """Return True if the user wants results and errors only."""
    return os.environ.get(QUIET) == "1"


def result(line: str) -> None:
    """Print a line of a command's result."""
    out().print(_text(printable(line)), soft_wrap=True)


def data(text: str) -> None:
    """Print a result for a program, which may have several lines: as it is into a file or a pipe, and escaped
    on a terminal.
    """
    if sys.stdout.isatty():
        out().print(_text(printable(text, lines=True)), soft_wrap=True)
        return
    sys.stdout.flush()
    sys.stdout.buffer.write(f"{text}\n".encode("utf-8", "backslashreplace"))
    sys.stdout.flush()


def confirmed(question: str) -> bool:
    """Ask a question of one or more lines on the terminal. Standard output stays free for the result.

    Raises:
        UserError: standard input is no terminal.
    """
    import typer

    if not sys.stdin.isatty():
        last = question.splitlines()[-1]
        raise UserError(f"{last} There is no terminal to ask on; answer with --yes.")
    return typer.confirm(printable(question, lines=True), err=True)


def table(
    title: str | list[str],
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    caption: str | list[str] = "",
    left: Sequence[str] = (),
) -> None:
    """Print a table: the first column and those of `left` left-aligned, the others right-aligned, None as
    "—". A cell, title or caption that is a list has a line for each entry.
    """
    from rich.table import Table

    grid = Table(
        title=_cell(title), caption=_cell(caption) or None, title_justify="left", caption_justify="left"
    )
    for number, column in enumerate(columns):
        is_left = number == 0 or column in left
        grid.add_column(_cell(column), justify="left" if is_left else "right", overflow="fold")
    for row in rows:
        grid.add_row(*map(_cell, row))
    out().print(grid)


def _cell(value: object) -> str:
    if isinstance(value, list):
        return "\n".join(map(_cell, value))
    return "—" if value is None else printable(str(value))


class _Task:
    def __init__(self, bars: Progress, task: TaskID) -> None:
        self._bars, self._task = bars, task

    def update(self, completed: float, note: str = "") -> None:
        self._bars.update(self._task, completed=completed, note=printable(note))

    def advance(self, amount: float = 1) -> None:
        self._bars.advance(self._task, amount)


class RichProgress:
    """`pipelines.progress.Progress` on a terminal: one live bar per task, with rate and remaining time."""

    def say(self, message: str) -> None:
        note(message)

    @contextmanager
    def task(self, description: str, total: float | None = None, unit: str = "") -> Iterator[_Task]:
        from rich import progress as rich

        amounts: list[ProgressColumn] = (
            [rich.DownloadColumn(), rich.TransferSpeedColumn()]
            if unit == "bytes"
            else [rich.MofNCompleteColumn(), rich.TextColumn(unit, markup=False)]
        )
        columns = [
            rich.SpinnerColumn(),
            rich.TextColumn("{task.description}", markup=False),
            rich.BarColumn(bar_width=24),
            *amounts,
            rich.TimeElapsedColumn(),
            rich.TimeRemainingColumn(),
            rich.TextColumn("{task.fields[note]}", markup=False),
        ]
        disabled = is_quiet() or not err().is_terminal
        with rich.Progress(*columns, console=err(), transient=True, disable=disabled) as bars:
            yield _Task(bars, bars.add_task(printable(description), total=total, note=""))
