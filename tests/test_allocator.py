"""The allocator setting takes effect where there is glibc."""

from __future__ import annotations

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
from maskgr_cli.allocator import keep_freed_memory
{setting}
import torch
from pathlib import Path
kept = torch.ones(1 << 26)
print(next(line.split()[1] for line in Path("/proc/self/smaps_rollup").read_text().splitlines() if line.startswith("AnonHugePages")))
"""
OFFERED = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.mark.skipif(not OFFERED.exists() or "[madvise]" not in OFFERED.read_text(), reason="huge pages are not given to those who ask")
def test_large_tensors_lie_in_huge_pages() -> None:
    kib = [
        int(subprocess.run([sys.executable, "-c", HUGE.format(setting=s)], capture_output=True, text=True, check=True).stdout)
        for s in ("", "keep_freed_memory()")
    ]
    assert kib[1] - kib[0] > (1 << 26) * 4 / 1024 / 2


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_large_blocks_are_faulted_in_once() -> None:
    assert keep_freed_memory()
    faults = [
        int(subprocess.run([sys.executable, "-c", FAULTS.format(setting=s)], capture_output=True, text=True, check=True).stdout)
        for s in ("", "keep_freed_memory()")
    ]
    assert faults[1] < faults[0] / 10
