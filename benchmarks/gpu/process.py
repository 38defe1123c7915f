"""A part of the check in a process of its own, which ends at its deadline: a fault, a hang or a crash of one
part costs that part alone, and each begins with the memory of the device free.
"""

from __future__ import annotations

import os
import resource
import signal
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from pipelines.orphans import PARENT, end_with_parent

Report = Callable[[str, Any], None]  # receives the name of a result and the result, which JSON can hold
GIB = 2**30
ENDING = 10.0  # seconds that a process whose part is over has to end
CLOSING = 5.0  # seconds of a call that no part gets: the tables, and the end of a process


@dataclass(frozen=True)
class Conditions:
    """Conditions of a part.

    Attributes:
        device: "cuda" or "cpu".
        preset: preset of `maskgr`.
        seconds: duration of each measurement of a rate.
        users: number of test users that throughput recommends to; 0 for all.
        deadline: `time.monotonic()` at which the process is killed; the clock is that of the whole machine.
        failed_before: true if an earlier call tried this part in vain.
        throughput: results of the part "throughput"; empty if there are none.
    """

    device: str
    preset: str
    seconds: float
    users: int
    deadline: float
    failed_before: bool = False
    throughput: dict[str, Any] = field(default_factory=dict)

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()


Task = Callable[[Conditions, Report], None]


@dataclass(frozen=True)
class Part:
    """A part of the check.

    Attributes:
        name: of the part.
        task: what its process does.
        most: share of a call's time that it may take.
        least: share of a call's time without which it does not begin.
    """

    name: str
    task: Task
    most: float
    least: float

    def budget(self, total: float, left: float) -> float | None:
        """Return the seconds that the part gets; None if it would not fit.

        Args:
            total: seconds of the call.
            left: seconds of the call that are left.
        """
        usable = left - CLOSING
        return min(self.most * total, usable) if usable >= self.least * total else None


def run_in_process(task: Task, conditions: Conditions, report: Report) -> tuple[str, dict[str, Any]]:
    """Run a task in a new process until it ends or its deadline passes.

    Args:
        task: a function that the new process can import.
        conditions: of the task.
        report: called in this process with every result that the task reports.

    Returns:
        "finished", "failed" or "over its budget"; and what else is known: "machine", "peak GiB" and, of a
        failure, "error".
    """
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(sender, task, conditions))
    os.environ[PARENT] = str(os.getpid())
    try:
        process.start()
    finally:
        del os.environ[PARENT]
    sender.close()
    further: dict[str, Any] = {}

    def receive(seconds: float) -> bool:
        """Take the next message, and return False if there is none within some seconds."""
        if not receiver.poll(seconds):
            return False
        message = receiver.recv()
        if message is None:  # a process that the part left behind may keep the pipe open
            raise EOFError
        kind, name, value = message
        if kind == "result":
            report(name, value)
        elif name == "peak GiB":  # a part may count its peak anew
            known = further.get(name, {})
            further[name] = {place: max(size, known.get(place, 0.0)) for place, size in value.items()}
        else:
            further[name] = value
        return True

    try:
        while (left := conditions.left) > 0:
            receive(left)
        while receive(0):  # what it reported before
            pass
        return "over its budget", further
    except (EOFError, ConnectionError):  # the part has ended
        process.join(ENDING)
        if "error" in further:
            return "failed", further
        if process.exitcode:
            return "failed", {**further, "error": f"The process ended with exit code {process.exitcode}."}
        return "finished", further
    finally:
        with suppress(ProcessLookupError, PermissionError, TypeError):  # it has ended, or has not begun
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.join()


def _work(sender: Connection, task: Task, conditions: Conditions) -> None:
    """Run a task in this process, and send what it reports."""
    os.setsid()  # a group of its own, so that processes of a compiler end with it
    end_with_parent()

    def report(name: str, value: Any) -> None:
        sender.send(("result", name, value))
        sender.send(("further", "peak GiB", peak(conditions.device)))

    with sender:
        try:
            task(conditions, report)
        except BaseException:
            traceback.print_exc()
            sender.send(("further", "error", traceback.format_exc()))
        sender.send(("further", "machine", _machine(conditions.device)))
        sender.send(("further", "peak GiB", peak(conditions.device)))
        sender.send(None)


def _machine(device: str) -> dict[str, Any]:
    """Return what JSON should hold of the machine."""
    import torch

    facts = {"torch": torch.__version__, "cuda": torch.version.cuda, "cores": os.cpu_count(), "device": "cpu"}
    if device == "cuda":
        with suppress(RuntimeError):  # a fault of the part may have left the device unusable
            properties = torch.cuda.get_device_properties(0)
            facts |= {"device": properties.name, "memory GiB": properties.total_memory / GIB}
    return facts


def peak(device: str) -> dict[str, float]:
    """Return the peak memory of this process in GiB: on the host, and allocated and reserved on the GPU."""
    import torch

    peaks = {"host": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB}
    if device == "cuda":
        peaks["allocated"] = torch.cuda.max_memory_allocated() / GIB
        peaks["reserved"] = torch.cuda.max_memory_reserved() / GIB
    return peaks
