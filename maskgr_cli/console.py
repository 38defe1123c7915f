"""Rich: tables, progress bars, the error line. The only file that decides how output looks.

Results (tables) go to standard output; progress, notes and errors go to standard error, so that
`maskgr eval > table.txt` keeps just the table. Names, values and texts of files may hold anything: what a terminal
would obey (escapes, controls, directions of writing) is shown escaped.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import (
    Progress as Bars,
)
from rich.table import Table
from rich.text import Text

from pipelines.options import printable

WORKER_ERRORS = (
    "MASKGR_WORKER_ERRORS"  # in processes started by `launch.relaunch`: the folder for their errors
)
FILE_WIDTH = 160  # columns of a table that goes into a file or a pipe


def _console(**options: bool) -> Console:
    """A console that prints text as it is: names and paths may hold brackets and colons."""
    return Console(highlight=False, markup=False, emoji=False, **options)


out = _console()
if not sys.stdout.isatty() and "COLUMNS" not in os.environ:
    out.width = FILE_WIDTH
err = _console(stderr=True, soft_wrap=True)


def error(message: str) -> None:
    """Print an error for a person, one line: a red "error:" and the message.

    A process that `launch.relaunch` started leaves it to its parent, so that many processes print one error.
    """
    if folder := os.environ.get(WORKER_ERRORS):
        Path(folder, os.environ["RANK"]).write_text(message, encoding="utf-8")
        return
    err.print(Text.assemble(("error: ", "bold red"), printable(message)))


def note(message: str) -> None:
    """Print one line of what was done or chosen."""
    err.print(Text(printable(message)))


def result(text: str) -> None:
    """Print lines that belong to a command's result."""
    out.print(Text(printable(text, lines=True)), soft_wrap=True)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], caption: str = "") -> None:
    """Print a table: first column left, the others right; None is shown as "—"."""
    shown = Table(
        title=_cell(title), caption=_cell(caption) or None, title_justify="left", caption_justify="left"
    )
    for number, column in enumerate(columns):
        shown.add_column(_cell(column), justify="left" if number == 0 else "right", overflow="fold")
    for row in rows:
        shown.add_row(*map(_cell, row))
    out.print(shown)


def _cell(value: object) -> str:
    return "—" if value is None else printable(str(value), lines=True)


class _Task:
    def __init__(self, bars: Bars, task: TaskID) -> None:
        self._bars, self._task = bars, task

    def update(self, completed: float, note: str = "") -> None:
        self._bars.update(self._task, completed=completed, note=printable(note))

    def advance(self, amount: float = 1) -> None:
        self._bars.advance(self._task, amount)


class RichProgress:
    """`pipelines.progress.Progress` on a terminal: one live bar a task, with rate and time left."""

    def say(self, message: str) -> None:
        note(message)

    @contextmanager
    def task(self, description: str, total: float | None = None, unit: str = "") -> Iterator[_Task]:
        amounts = (
            [DownloadColumn(), TransferSpeedColumn()]
            if unit == "bytes"
            else [MofNCompleteColumn(), TextColumn(unit, markup=False)]
        )
        columns = [
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            *amounts,
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        ]
        with Bars(*columns, console=err, transient=True, disable=not err.is_terminal) as bars:
            yield _Task(bars, bars.add_task(printable(description), total=total, note=""))
