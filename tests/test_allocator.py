"""The allocator settings take effect where there is glibc, and where the kernel gives huge pages."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from maskgr_cli.allocator import keep_freed_memory

FAULTS = """
import resource, numpy as np
from maskgr_cli.allocator import keep_freed_memory
{setting}
for _ in range(3): np.ones(1 << 24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10): np.ones(1 << 24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
HUGE = """
from pathlib import Path
from maskgr_cli.allocator import keep_freed_memory
{setting}
import torch
kept = torch.ones(1 << 26)
lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
print(next(line.split()[1] for line in lines if line.startswith("AnonHugePages")))
"""
OFFERED = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def without_and_with(program: str) -> list[int]:
    """The number that a program prints in a process that has not been told anything, and in one that has."""
    untold = {name: value for name, value in os.environ.items() if name != "THP_MEM_ALLOC_ENABLE"}
    commands = (
        [sys.executable, "-c", program.format(setting=setting)] for setting in ("", "keep_freed_memory()")
    )
    return [
        int(subprocess.run(command, capture_output=True, text=True, check=True, env=untold).stdout)
        for command in commands
    ]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_large_blocks_are_faulted_in_once() -> None:
    assert keep_freed_memory()
    without, kept = without_and_with(FAULTS)
    assert kept < without / 10


@pytest.mark.skipif(
    not OFFERED.exists() or "[madvise]" not in OFFERED.read_text(),
    reason="huge pages are not given to those who ask",
)
def test_large_tensors_lie_in_huge_pages() -> None:
    without, kib = without_and_with(HUGE)
    assert kib - without > (1 << 26) * 4 / 1024 / 10  # as many as the kernel has to give


KEEPS = """
from maskgr_cli.allocator import keep_freed_memory, keeps_freed_memory
{setting}
print(int(keeps_freed_memory()))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_the_measurement_tells_kept_memory_from_returned() -> None:
    assert without_and_with(KEEPS) == [0, 1]
