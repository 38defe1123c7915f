"""Progress reports of long work, independent of how they are shown.

The command line implements `Progress` with Rich; tests implement it with a list.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """One running piece of work, whose total may be unknown."""

    def update(self, completed: float, note: str = "") -> None:
        """Set the completed amount and a short live note.

        Args:
            completed: amount in the task's unit.
            note: e.g. "loss 3.21 · 18k tokens/s".
        """

    def advance(self, amount: float = 1) -> None:
        """Add to the completed amount."""


class Progress(Protocol):
    """Receiver of the progress of long work."""

    def say(self, message: str) -> None:
        """Report one line that stays visible to the user."""

    def task(
        self, description: str, total: float | None = None, unit: str = ""
    ) -> AbstractContextManager[Task]:
        """Open a task.

        Args:
            total: amount of work in `unit`; None if it is unknown.
            unit: "bytes" for sizes, else a plural noun ("users", "batches").
        """


class _SilentTask:
    def update(self, completed: float, note: str = "") -> None:
        pass

    def advance(self, amount: float = 1) -> None:
        pass


class Silent:
    """A `Progress` that shows nothing, for use as a library and for all processes but the first."""

    def say(self, message: str) -> None:
        pass

    @contextmanager
    def task(self, description: str, total: float | None = None, unit: str = "") -> Iterator[Task]:
        yield _SilentTask()
