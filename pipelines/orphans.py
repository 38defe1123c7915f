"""Processes that end when the process that started them ends."""

from __future__ import annotations

import os
import signal
import threading
import time

PARENT = "MASKGR_PARENT"  # environment variable that holds the process ID of the parent
LOOK_SECONDS = 0.2  # interval between two looks at the parent


def end_with_parent() -> None:
    """Kill this process soon after its parent ends for any reason.

    Without the environment variable PARENT, do nothing.
    """
    parent = int(os.environ.pop(PARENT, "0"))

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

    if parent:
        threading.Thread(target=watch, daemon=True).start()
