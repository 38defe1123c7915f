"""Forked processes of `benchmarks.torture`."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import psutil

from maskgr_cli import signals


class Child:
    """A forked process, whose output goes to a file.

    Attributes:
        pid: id of the process.
    """

    def __init__(self, act: Callable[[], object], log: Path) -> None:
        """
        Args:
            act: work of the process.
            log: path of the file for its output.
        """
        self._log = log
        self.pid = os.fork()
        if not self.pid:
            self._run(act)

    def _run(self, act: Callable[[], object]) -> None:
        out = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1), os.dup2(out, 2)
        code = 1
        try:
            signals.exit_on_signal()
            act()
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(code)

    def wait(self) -> int:
        """Wait for the end, and return the exit code; a negative code is the signal that killed the
        process.
        """
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def wait_or_signal(self, number: int, seconds: float) -> int:
        """Send a signal after some seconds if the process still runs then, and return the exit code.

        Args:
            number: number of the signal.
            seconds: time until the signal.

        Raises:
            AssertionError: processes that it started outlive it.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.001)
        started = psutil.Process(self.pid).children(recursive=True)
        os.kill(self.pid, number)
        code = self.wait()
        if alive := psutil.wait_procs(started, timeout=120)[1]:
            raise AssertionError(f"processes outlive the command: {alive}")
        return code

    @property
    def output(self) -> str:
        """Output of the process."""
        return self._log.read_text(errors="replace")
