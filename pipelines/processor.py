"""Description of this machine's processor for provenance and time estimates."""

from __future__ import annotations

import platform
from pathlib import Path

# Instruction sets that decide how fast matrix products are, and whether the processor has them in bfloat16.
INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


def processor() -> str:
    """Return the processor's name and its `INSTRUCTIONS`, as far as the operating system reports them."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    values = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    name = values.get("model name") or platform.processor() or "unknown"
    flags = {*values.get("flags", "").split()}
    return ", ".join((name, *(flag for flag in INSTRUCTIONS if flag in flags)))
