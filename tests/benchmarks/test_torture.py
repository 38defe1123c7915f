"""A few of the kills and signals of `make torture`."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.conftest import ROOT


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kills are POSIX")
def test_a_repeated_training_survives_a_few_kills() -> None:
    """The trials run in a process of their own, since a process with threads must not fork."""
    command = [sys.executable, "-m", "benchmarks.torture", "--kills", "2", "--stage", "train --force"]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    assert "SIGKILL, train --force" in child.stdout
