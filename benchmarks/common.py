"""Rates of several sides, measured in turn in processes of their own, and their ratio."""

from __future__ import annotations

import argparse
import json
import resource
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from maskgr_cli import console
from maskgr_cli.allocator import keep_freed_memory
from pipelines import artifacts
from pipelines.defaults import ensure_sids
from pipelines.errors import UserError
from pipelines.progress import Silent
from pipelines.tokenize.config import TokenizeConfig
from pipelines.workspace import Dataset, Workspace

RESULTS = Path(__file__).parent / "results"
REFERENCE, DEFAULT = "reference", "reference, glibc's own allocator settings"


def dataset(name: str = "beauty") -> tuple[Dataset, str]:
    """The data set of a benchmark and the name of its semantic IDs (4 × 256), made where missing."""
    found = Workspace.find().require_dataset(name)
    return found, ensure_sids(found, TokenizeConfig(), None, Silent())


def rate(work: Callable[[], int], seconds: float) -> float:
    """Units of work a second: one call to warm up, then calls until the time is over, and a GPU is done with them."""
    work()
    wait_for_gpu()
    units, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        units += work()
    wait_for_gpu()
    return units / (time.perf_counter() - began)


def wait_for_gpu() -> None:
    """Until it has done all it was given; nothing where there is none."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def items_first(digits: np.ndarray, items: np.ndarray) -> torch.Tensor:
    """Digits [B, n, H] of items padded on the left, as the reference wants them: items first, −1 after them."""
    none = np.full((1, digits.shape[1]), -1)
    items = np.take_along_axis(items, np.argsort(items < 0, axis=1, kind="stable"), axis=1)
    return torch.as_tensor(np.concatenate((digits, none))[items])


Setup = Callable[[], Callable[[], int]]  # sets up a side's work; the work returns how many units it did


def compare(module: str, sides: dict[str, Setup], reference: Setup, unit: str) -> None:
    """Run a benchmark: as the parent, all sides in turn; as a child, one side.

    Args:
        module: the benchmark's name under `benchmarks`.
        sides: what is compared with the reference.
        reference: is measured twice, with freed memory kept as all sides do, and with glibc's own settings.
        unit: what is counted, e.g. "sequences".
    """
    sides = {**sides, REFERENCE: reference, DEFAULT: reference}
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each side")
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement")
    parser.add_argument(
        "--save", action="store_true", help=f"write the figures to benchmarks/results/{module}.json"
    )
    parser.add_argument("--side", choices=sides, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        if options.side != DEFAULT:
            keep_freed_memory()
        measured = rate(sides[options.side](), options.seconds)
        print(
            json.dumps(
                {"rate": measured, "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
            )
        )
        return
    require_beauty()
    found: dict[str, list[dict]] = {side: [] for side in sides}
    for _ in range(options.rounds):
        for side in sides:
            command = [
                sys.executable,
                "-m",
                f"benchmarks.{module}",
                "--side",
                side,
                "--seconds",
                str(options.seconds),
            ]
            found[side].append(
                json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
            )
    against = {name: ratios(found, name) for name in (REFERENCE, DEFAULT)}
    _show(found, against, unit)
    if options.save:
        save(module, {"unit": f"{unit}/s", "measured": found, "ratios": against})


def require_beauty() -> None:
    """End with a word where Beauty is not in the workspace; make its semantic IDs where they are missing."""
    try:
        dataset()
    except UserError as error:
        sys.exit(f"{error}\nThe benchmarks run on Beauty: import or download it as `beauty`.")


def save(name: str, figures: dict) -> None:
    """Write figures with the command, the machine and the commit to benchmarks/results/NAME.json."""
    module = Path(sys.argv[0]).stem
    shown = shlex.join(["python", "-m", f"benchmarks.{module}", *sys.argv[1:]])
    artifacts.write_json(
        RESULTS / f"{name}.json",
        {"command": shown, "machine": artifacts.machine(), "commit": artifacts.commit(), **figures},
    )


def ratios(found: dict[str, list[dict]], reference: str) -> dict[str, float]:
    """How much faster each side is than the reference: the median over the rounds of the ratio within a round."""
    return {
        side: statistics.median(a["rate"] / b["rate"] for a, b in zip(rounds, found[reference], strict=True))
        for side, rounds in found.items()
        if side not in (REFERENCE, DEFAULT)
    }


def _show(found: dict[str, list[dict]], against: dict[str, dict[str, float]], unit: str) -> None:
    rows = []
    for side, rounds in found.items():
        rates = sorted(r["rate"] for r in rounds)
        spread = f"{rates[0]:.1f}–{rates[-1]:.1f}"
        peak = f"{max(r['peak_mib'] for r in rounds):.0f} MiB"
        times = (f"{ahead[side]:.1f}×" if side in ahead else None for ahead in against.values())
        rows.append((side, f"{statistics.median(rates):.1f}", spread, peak, *times))
    headers = ["side", "median", "range", "peak memory", "× reference", "× with glibc's own settings"]
    console.table(f"{unit}/s", headers, rows, artifacts.machine())
