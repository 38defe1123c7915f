"""A few of the trials of `make torture`."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.conftest import ROOT


def torture(stages: list[str], kinds: list[str], tries: int) -> subprocess.CompletedProcess[str]:
    """Run trials in a process of their own, since a process with threads must not fork."""
    command = [sys.executable, "-m", "benchmarks.torture", "--kills", str(tries)]
    command += [word for stage in stages for word in ("--stage", stage)]
    command += [word for kind in kinds for word in ("--kind", kind)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kills are POSIX")
def test_a_repeated_training_survives_a_few_kills() -> None:
    done = torture(["train --force"], ["kill", "signal"], 1)
    assert done.returncode == 0, done.stderr
    assert "SIGKILL, train --force" in done.stdout


def test_disks_missing_files_and_two_commands_at_once_tear_nothing() -> None:
    """A user who may not mount a file system tries no disks."""
    done = torture(["import", "recommend"], ["twice", "vanished", "disk", "read-only"], 1)
    assert done.returncode == 0, done.stderr
    for trial in ("two at once", "missing file"):
        assert f"{trial}, recommend" in done.stdout
    may_mount = "is not tried" not in done.stderr
    assert ("read-only disk, recommend" in done.stdout) == may_mount
    assert ("full disk, recommend" in done.stdout) == may_mount
