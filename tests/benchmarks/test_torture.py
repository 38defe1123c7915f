"""A handful of the kills and signals of `make torture`."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.conftest import ROOT


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kills are POSIX")
def test_a_training_anew_stands_a_few_kills() -> None:
    """In a process of its own: it forks, which this one, full of threads, must not."""
    command = [sys.executable, "-m", "benchmarks.torture", "--kills", "2", "--stage", "train --force"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "SIGKILL, train --force" in done.stdout
