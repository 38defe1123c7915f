"""Signals during training: the first one is collected, so that the training can save its state and stop."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


class Stopped(Exception):
    """The end of a training on a signal: after a step, or within a step or validation, which is left out."""


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM within the block.

    A SIGINT after the first signal raises KeyboardInterrupt at once.
    Outside the main thread, which alone may handle signals, nothing is collected.

    Yields:
        List that each signal's number is appended to.
    """
    received: list[int] = []

    def collect(number: int, _frame: object) -> None:
        received.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    try:
        handlers = {number: signal.signal(number, collect) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread
        handlers = {}
    try:
        yield received
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
