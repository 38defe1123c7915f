"""What this machine's processor is, as provenance and estimates name it."""

from __future__ import annotations

import platform
from pathlib import Path

INSTRUCTIONS = (
    "avx2",
    "avx512f",
    "avx512_bf16",
    "amx_bf16",
)  # how wide products are, and whether there are any in bfloat16


def processor() -> str:
    """The processor's name and which of the instructions it has that decide how fast a training is, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    told = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    has = {*told.get("flags", "").split()}
    return ", ".join(
        (
            told.get("model name") or platform.processor() or "unknown",
            *(flag for flag in INSTRUCTIONS if flag in has),
        )
    )
