"""Parts of a check whose outcome is known; imported by the processes of `benchmarks.gpu.process`."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from benchmarks.gpu.process import Conditions, Part, Report

SIGNAL = "MASKGR_TEST_SIGNAL"  # environment variable: file that "waiting" makes, and then waits


class UntilSignal(Conditions):
    """Conditions whose deadline is the file of "waiting"."""

    @property
    def left(self) -> float:
        return 0.0 if Path(os.environ[SIGNAL]).exists() else 0.1


def good(conditions: Conditions, report: Report) -> None:
    report("process", os.getpid())
    report("summary", "it went well")


def failing(conditions: Conditions, report: Report) -> None:
    report("failed before", conditions.failed_before)
    raise ValueError("no such kernel\n" + 9000 * "x")


def crashing(conditions: Conditions, report: Report) -> None:
    report("half", float("nan"))
    os.kill(os.getpid(), signal.SIGSEGV)


def waiting(conditions: Conditions, report: Report) -> None:
    report("half", 1)
    signaled = Path(os.environ[SIGNAL])
    (unfinished := signaled.with_suffix(".tmp")).write_text(str(os.getpid()), encoding="utf-8")
    unfinished.rename(signaled)
    while True:
        time.sleep(1)


def parts(*tasks: object) -> list[Part]:
    """Return parts named after their tasks."""
    return [Part(task.__name__, task, 0.5, 0.1) for task in tasks]
