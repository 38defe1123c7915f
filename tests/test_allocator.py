"""The allocator setting takes effect where there is glibc."""

from __future__ import annotations

import platform
import subprocess
import sys

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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_large_blocks_are_faulted_in_once() -> None:
    assert keep_freed_memory()
    faults = [
        int(subprocess.run([sys.executable, "-c", FAULTS.format(setting=s)], capture_output=True, text=True, check=True).stdout)
        for s in ("", "keep_freed_memory()")
    ]
    assert faults[1] < faults[0] / 10
