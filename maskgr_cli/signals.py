"""Signal handlers: SIGINT (Ctrl-C) and SIGTERM end the program with exit code 130 or 143 and at most a line.

While modules are imported, before or in a command, and after the work is done, the process exits at once. An
exception in the middle of an import could be swallowed, replaced by another one or fatal, depending on the
module.

While a command works, the handler raises an exception, so that `with` and `finally` blocks end in order. A
second signal makes the process exit at once. The next process removes the incomplete files of a process that
exited (`pipelines.durable`).
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

LINES = {signal.SIGINT: b"Interrupted.\n", signal.SIGTERM: b"Terminated.\n"}

caught: list[int] = []  # the signal that ends this process, if any


def exit_on_signal() -> None:
    """Make the next signal end the process at once."""
    for number in LINES:
        signal.signal(number, _exit)


def ignore() -> None:
    """Ignore further signals, after the command is done and before Python exits.

    Python removes its own handlers when it exits. A signal after that would end the process as if it had not
    been caught.
    """
    for number in LINES:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def raise_on_signal() -> Iterator[None]:
    """Make a signal raise KeyboardInterrupt or SystemExit within the block, and exit at once after the block.

    `caught` then holds the number of the signal.
    """
    default_hook = sys.unraisablehook

    def on_unraisable(args: sys.UnraisableHookArgs) -> None:  # an exception in a destructor or a callback
        if caught:
            _exit(caught[0])
        default_hook(args)

    sys.unraisablehook = on_unraisable
    for number in LINES:
        signal.signal(number, _raise)
    try:
        yield
    finally:
        exit_on_signal()
        with suppress(OSError):  # the pipe is closed
            sys.stdout.flush()


def _raise(number: int, frame: FrameType | None) -> None:
    if caught or _is_importing(frame):
        _exit(number)
    caught.append(number)
    if number == signal.SIGTERM:
        _say(number)
        raise SystemExit(128 + number)
    raise KeyboardInterrupt


def _exit(number: int, _frame: FrameType | None = None) -> None:
    if not caught:
        _say(number)
    os._exit(128 + number)


def _say(number: int) -> None:
    if "LOCAL_RANK" not in os.environ:  # of several processes, the parent prints the line
        with suppress(OSError):
            os.write(2, LINES[signal.Signals(number)])


def _is_importing(frame: FrameType | None) -> bool:
    """Return True if the program is in the middle of an import."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
