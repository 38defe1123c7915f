"""What Ctrl-C (SIGINT) and SIGTERM do: end the program with exit code 130 or 143 and one line or none, whenever they come.

While modules load, before and in a command, and once the work is done, the process leaves at once: an exception in the middle of an
import is swallowed, replaced by another or fatal, as the module likes. While a command works an exception is raised, so that its blocks
end in order; a second signal leaves at once. What a process that leaves had begun to write is removed by the next (`pipelines.durable`).
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

LINES = {signal.SIGINT: b"Interrupted.\n", signal.SIGTERM: b"Terminated.\n"}

caught: list[int] = []  # the signal that ends this process


def leave_at_once() -> None:
    """From here on a signal ends the process there and then."""
    for number in LINES:
        signal.signal(number, _leave)


@contextmanager
def raised() -> Iterator[list[int]]:
    """Within the block a signal raises KeyboardInterrupt or SystemExit; yields the list that then holds it. After it, it leaves at once."""
    unraisable = sys.unraisablehook

    def swallowed(
        what: sys.UnraisableHookArgs,
    ) -> None:  # raised where nothing can be: in a destructor, in a callback
        if caught:
            _leave(caught[0])
        unraisable(what)

    sys.unraisablehook = swallowed
    for number in LINES:
        signal.signal(number, _raise)
    try:
        yield caught
    finally:
        leave_at_once()
        with suppress(OSError):  # nobody reads
            sys.stdout.flush()


def _raise(number: int, frame: FrameType | None) -> None:
    if caught or _importing(frame):
        _leave(number)
    caught.append(number)
    if number == signal.SIGTERM:
        _say(number)
        raise SystemExit(128 + number)
    raise KeyboardInterrupt


def _leave(number: int, _frame: FrameType | None = None) -> None:
    if not caught:
        _say(number)
    os._exit(128 + number)


def _say(number: int) -> None:
    if "LOCAL_RANK" not in os.environ:  # one of several processes leaves it to the first
        with suppress(OSError):
            os.write(2, LINES[signal.Signals(number)])


def _importing(frame: FrameType | None) -> bool:
    """Whether the program is in the middle of an import."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
