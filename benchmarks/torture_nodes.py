"""Trials of `benchmarks.torture` with two machines: two launchers of a process each, which meet over gloo.

SIGKILL ends the launcher and the process of one machine, as if its power failed. SIGTERM goes to the
launchers of both, as a scheduler sends it before the time is over.
"""

from __future__ import annotations

import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from benchmarks.torture_checks import leftovers, result_digests
from benchmarks.torture_stages import TRAIN, Command

if TYPE_CHECKING:
    from benchmarks.torture import Torture

COMMAND: Command = [*TRAIN, "--resume"]
PATIENCE = 600  # seconds until the processes of a machine that is left count as hanging


def stop_nodes(torture: Torture, number: int, root: Path) -> bool:
    """Stop a training of two machines at a random moment, and run the same command again.

    Args:
        number: signal; SIGKILL for one machine, another for both.
        root: workspace to create.

    Returns:
        True if the training ended before the signal.
    """
    seconds, expected = _undisturbed(torture)
    shutil.copytree(torture.ready("train --processes 2").root, root)
    nodes = _start(root)
    end = time.monotonic() + torture.random.uniform(seconds / 2, seconds)  # most of the rest is loading
    while time.monotonic() < end and any(node.poll() is None for node in nodes):
        time.sleep(0.01)
    started = [child for node in nodes for child in _children(node)]
    if number == signal.SIGKILL:
        victim = torture.random.choice(nodes)
        for process in (victim, *_children(victim)):
            process.kill()
    else:
        for node in nodes:
            node.send_signal(number)
    output = _end(nodes)
    if alive := psutil.wait_procs(started, timeout=PATIENCE)[1]:
        raise AssertionError(f"processes outlive their machine's launcher: {alive}")
    if "maskgr failed" in output:
        raise AssertionError(output)
    torture.check(root)
    finished = all(node.returncode == 0 for node in nodes)
    again = _start(root)
    output = _end(again)
    if any(node.returncode for node in again):
        raise AssertionError(f"exit codes {[node.returncode for node in again]}: {output}")
    torture.check(root)
    if files := leftovers(root):
        raise AssertionError(f"left behind: {files}")
    if result_digests(root) != expected:
        raise AssertionError("another result")
    return finished


@functools.cache
def _undisturbed(torture: Torture) -> tuple[float, dict[str, str]]:
    """Return the seconds and the result of a training that nothing disturbs."""
    root = torture.files.with_name("nodes after")
    shutil.copytree(torture.ready("train --processes 2").root, root)
    began = time.monotonic()
    nodes = _start(root)
    output = _end(nodes)
    if any(node.returncode for node in nodes):
        raise AssertionError(output)
    return time.monotonic() - began, result_digests(root)


def _start(root: Path) -> list[subprocess.Popen[str]]:
    """Start the launchers of both machines."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    line = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    line += ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}", "--rdzv-id", "torture"]
    line += ["--local-addr", "127.0.0.1", "-m", "maskgr_cli", *map(str, COMMAND)]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "MASKGR_WORKSPACE": str(root)}
    return [
        subprocess.Popen(
            line,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path.cwd(),
        )
        for _ in range(2)
    ]


def _children(node: subprocess.Popen[str]) -> list[psutil.Process]:
    try:
        return psutil.Process(node.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _end(nodes: list[subprocess.Popen[str]]) -> str:
    """Wait for the launchers, and return what they and their processes said.

    Raises:
        AssertionError: one of them hangs.
    """
    try:
        return "\n".join(node.communicate(timeout=PATIENCE)[1] for node in nodes)
    except subprocess.TimeoutExpired as error:
        for node in nodes:
            for process in (*_children(node), node):
                process.kill()
        raise AssertionError(f"a launcher hangs: {error.stderr!r}") from None
