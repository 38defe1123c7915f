"""Spoilt files for every reader, and nasty values for every option: `python -m benchmarks.fuzz`.

Prints how many were tried, refused in a line and accepted, and every fault with the file that made it; exit code 1 where there is any.
The mutations are those of the seed, up to the time stamps that valid files hold.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import tempfile
from pathlib import Path

from benchmarks.fuzz import pool
from benchmarks.fuzz.counts import Counts
from benchmarks.fuzz.readers import READERS
from maskgr_cli import console

OPTIONS = "options"
SHOWN = 20  # faults of each reader


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fuzz",
        description="Spoilt files and nasty values: refused in a line, or taken.",
    )
    parser.add_argument("--count", type=int, default=2000, help="files, or values, of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", choices=[*READERS, OPTIONS], help="these kinds alone"
    )
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes at a time")
    parser.add_argument(
        "--keep",
        type=Path,
        default=Path(tempfile.gettempdir()) / "maskgr-fuzz",
        help="folder for files that made a fault",
    )
    asked = parser.parse_args()
    names = [name for name in READERS if not asked.only or name in asked.only]
    found = (
        pool.run(names, asked.count, asked.seed, asked.jobs, asked.keep, console.RichProgress())
        if names
        else []
    )
    if (not asked.only or OPTIONS in asked.only) and importlib.util.find_spec("benchmarks.fuzz.options"):
        from benchmarks.fuzz import options

        found.append(options.run(asked.count, asked.seed))
    sys.exit(show(found))


def show(found: list[Counts]) -> int:
    """Print a table and the faults; the exit code."""
    rows = [
        (c.name, f"{c.tried:,}", f"{c.refused:,}", f"{c.accepted:,}", f"{len(c.faults):,}") for c in found
    ]
    console.table("Spoilt inputs", ["reader", "tried", "refused", "accepted", "faults"], rows)
    for counts in found:
        for fault in counts.faults[:SHOWN]:
            print(f"{counts.name}: {fault}")
    return 1 if any(counts.faults for counts in found) else 0


if __name__ == "__main__":
    main()
