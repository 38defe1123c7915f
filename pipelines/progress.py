"""How long work tells what it is doing, without knowing who listens.

The command line implements `Progress` with Rich; tests implement it with a list.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """One running piece of work with a known or unknown end."""

    def update(self, completed: float, note: str = "") -> None:
        """Set how much is done (in the task's unit) and a short live note, e.g. "loss 3.21 · 18k tokens/s"."""

    def advance(self, amount: float = 1) -> None:
        """Add to what is done."""


class Progress(Protocol):
    """A listener for long work."""

    def say(self, message: str) -> None:
        """Report one line that a person should be able to read afterwards."""

    def task(
        self, description: str, total: float | None = None, unit: str = ""
    ) -> AbstractContextManager[Task]:
        """Open a task; `unit` is "bytes" for sizes, else a plural noun ("users", "batches")."""


class _SilentTask:
    def update(self, completed: float, note: str = "") -> None:
        pass

    def advance(self, amount: float = 1) -> None:
        pass


class Silent:
    """A `Progress` that tells nobody: for library use and for all processes but the first."""

    def say(self, message: str) -> None:
        pass

    @contextmanager
    def task(self, description: str, total: float | None = None, unit: str = "") -> Iterator[Task]:
        yield _SilentTask()
