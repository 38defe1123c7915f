"""A handful of the kills and signals of `make torture`."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.conftest import ROOT


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kills are POSIX")
def test_cheap_stages_stand_a_few_kills() -> None:
    """In a process of its own: it forks, which this one, full of threads, must not."""
    command = [sys.executable, "-m", "benchmarks.torture", "--kills", "2"]
    stages = ("import", "import over another", "tokenize --force", "train --force")
    done = subprocess.run([*command, *(part for stage in stages for part in ("--stage", stage))], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("SIGKILL, ") == len(stages)
