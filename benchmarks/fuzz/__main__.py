"""Corrupted files for every reader, and bad values for every option: `python -m benchmarks.fuzz`.

The program prints how many inputs were tried, refused in one line and accepted, and every fault with the file
that caused it. The exit code is 1 if there is any fault. The seed determines the mutations, up to the time
stamps that valid files hold.
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
SHOWN = 20  # largest number of faults of each reader that are printed


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fuzz",
        description="Try corrupted files and bad values: each must be refused in one line, or accepted.",
    )
    parser.add_argument("--count", type=int, default=2000, help="number of files, or values, of each kind")
    parser.add_argument("--seed", type=int, default=0, help="seed of the mutations")
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", choices=[*READERS, OPTIONS], help="only these kinds"
    )
    parser.add_argument(
        "--jobs", type=int, default=len(os.sched_getaffinity(0)), help="number of processes at a time"
    )
    parser.add_argument(
        "--keep",
        type=Path,
        default=Path(tempfile.gettempdir()) / "maskgr-fuzz",
        help="folder for files that caused a fault",
    )
    options = parser.parse_args()
    names = [name for name in READERS if not options.only or name in options.only]
    results: list[Counts] = []
    if names:
        trials = pool.Trials(options.count, options.seed, options.jobs, options.keep)
        results += pool.run(names, trials, console.RichProgress())
    if (not options.only or OPTIONS in options.only) and importlib.util.find_spec("benchmarks.fuzz.options"):
        from benchmarks.fuzz import options as option_fuzzing

        results.append(option_fuzzing.run(options.count, options.seed))
    sys.exit(show(results))


def show(results: list[Counts]) -> int:
    """Print a table and the faults, and return the exit code."""
    rows = [
        (c.name, f"{c.tried:,}", f"{c.refused:,}", f"{c.accepted:,}", f"{len(c.faults):,}") for c in results
    ]
    console.table("Corrupted inputs", ["reader", "tried", "refused", "accepted", "faults"], rows)
    for counts in results:
        for fault in counts.faults[:SHOWN]:
            print(f"{counts.name}: {fault}")
    return 1 if any(counts.faults for counts in results) else 0


if __name__ == "__main__":
    main()
