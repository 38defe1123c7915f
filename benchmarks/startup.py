"""Time until a help text is printed, against the time to import Typer and Rich.

The sides are started in turn, 11 times each. The median of each side and its difference from the imports are
printed:

    python -m benchmarks.startup
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

from maskgr_cli import console
from pipelines import artifacts

RUNS = 11
IMPORTS = 'python -c "import typer, rich"'
SIDES = {
    IMPORTS: ["-c", "import typer, rich"],
    "maskgr --help": ["-m", "maskgr_cli", "--help"],
    "maskgr show --help": ["-m", "maskgr_cli", "show", "--help"],
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=RUNS, help="number of starts of each side")
    medians = measure(parser.parse_args().runs)
    rows = [(side, f"{median:.3f}", f"{median - medians[IMPORTS]:+.3f}") for side, median in medians.items()]
    console.table("Seconds", ["command", "median", "difference"], rows, artifacts.machine())


def measure(runs: int) -> dict[str, float]:
    """Start the sides in turn, after one start of each that fills the caches.

    Args:
        runs: number of starts of each side.

    Returns:
        Median of the seconds of each side.
    """
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    for _ in range(1 + runs):
        for side, arguments in SIDES.items():
            began = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
            seconds[side].append(time.perf_counter() - began)
    return {side: statistics.median(times[1:]) for side, times in seconds.items()}


if __name__ == "__main__":
    main()
