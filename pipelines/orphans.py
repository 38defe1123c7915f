"""No process outlives the one that started it."""

from __future__ import annotations

import os
import signal
import threading
import time

PARENT = "MASKGR_PARENT"  # set for a process to the number of the one that starts it
LOOK_SECONDS = 0.2


def end_with_parent() -> None:
    """Have this process killed soon after the one that started it ended in whatever way; nothing where PARENT is not set."""
    parent = int(os.environ.pop(PARENT, "0"))

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

    if parent:
        threading.Thread(target=watch, daemon=True).start()
