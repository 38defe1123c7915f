"""Rates of several sides, measured in turn in processes of their own, and their ratios."""

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
from typing import Any

import numpy as np
import torch

from maskgr_cli import console
from maskgr_cli.allocator import keep_freed_memory
from pipelines import artifacts
from pipelines.data.catalogue import Catalogue
from pipelines.defaults import ensure_sids
from pipelines.errors import UserError
from pipelines.models import loading
from pipelines.models.sid_models.maskgr import MaskGR
from pipelines.progress import Silent
from pipelines.tokenize.config import TokenizeConfig
from pipelines.train.configure import configure
from pipelines.workspace import Dataset, Workspace

RESULTS = Path(__file__).parent / "results"
REFERENCE, GLIBC_REFERENCE = "reference", "reference, glibc's own allocator settings"

Work = Callable[[], int]  # does some work, and returns the number of its units
Setup = Callable[[], Work]  # prepares a side's work
Measurement = dict[str, float]  # "rate" in units/s, "peak_mib" of memory


def run_parser(description: str | None, name: str) -> argparse.ArgumentParser:
    """Return the parser of a benchmark of a trained run: the run, --workspace, and --save.

    Args:
        description: docstring of the benchmark.
        name: of its results.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="name of a run")
    parser.add_argument("--workspace", type=Path, default=None)
    parser.add_argument(
        "--save", action="store_true", help=f"write the figures to benchmarks/results/{name}.json"
    )
    return parser


def dataset(name: str = "beauty") -> tuple[Dataset, str]:
    """Return the data set of a benchmark and the name of its semantic IDs (4 × 256), which are made if they
    are missing.
    """
    data = Workspace.find().require_dataset(name)
    return data, ensure_sids(data, TokenizeConfig(), None, Silent())


def build_maskgr(preset: str, settings: dict[str, Any], catalogue: Catalogue) -> MaskGR:
    """Return a new, untrained model.

    Args:
        preset: preset of `maskgr`.
        settings: settings that replace those of the preset.
        catalogue: the catalogue.
    """
    model_settings, _ = configure("maskgr", preset, settings)
    model = loading.build(model_settings, catalogue)
    assert isinstance(model, MaskGR)
    return model


def rate(work: Work, seconds: float) -> float:
    """Return units of work per second, after one call that warms up.

    Args:
        work: work to measure; a GPU finishes it before the time is read.
        seconds: duration of the measurement.
    """
    work()
    wait_for_gpu()
    units, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        units += work()
    wait_for_gpu()
    return units / (time.perf_counter() - began)


def wait_for_gpu() -> None:
    """Wait until the GPU has finished all its work; return at once without a GPU."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def items_first(sids: np.ndarray, items: np.ndarray) -> torch.Tensor:
    """Return the semantic IDs of histories in the form of the reference: items first, −1 after them.

    Args:
        sids: int64 [N, H].
        items: int [B, n], −1 at padding.

    Returns:
        int64 [B, n, H].
    """
    none = np.full((1, sids.shape[1]), -1)
    items = np.take_along_axis(items, np.argsort(items < 0, axis=1, kind="stable"), axis=1)
    return torch.as_tensor(np.concatenate((sids, none))[items])


def compare(module: str, sides: dict[str, Setup], reference: Setup, unit: str) -> None:
    """Run a benchmark: the parent process measures all sides in turn; a child process measures one side.

    Args:
        module: name of the benchmark under `benchmarks`.
        sides: sides that are compared with the reference.
        reference: the reference. It is measured twice: with freed memory kept, as for all sides, and with
            glibc's own settings.
        unit: unit that is counted, e.g. "sequences".
    """
    sides = {**sides, REFERENCE: reference, GLIBC_REFERENCE: reference}
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3, help="number of measurements of each side")
    parser.add_argument("--seconds", type=float, default=10, help="duration of each measurement")
    parser.add_argument(
        "--save", action="store_true", help=f"write the figures to benchmarks/results/{module}.json"
    )
    parser.add_argument("--side", choices=sides, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        if options.side != GLIBC_REFERENCE:
            keep_freed_memory()
        measured = rate(sides[options.side](), options.seconds)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"rate": measured, "peak_mib": peak}))
        return
    require_beauty()
    measurements: dict[str, list[Measurement]] = {side: [] for side in sides}
    for _ in range(options.rounds):
        for side in sides:
            command = [sys.executable, "-m", f"benchmarks.{module}"]
            command += ["--side", side, "--seconds", str(options.seconds)]
            child = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            measurements[side].append(json.loads(child.stdout))
    against = {name: ratios(measurements, name) for name in (REFERENCE, GLIBC_REFERENCE)}
    _show(measurements, against, unit)
    if options.save:
        save(module, {"unit": f"{unit}/s", "measured": measurements, "ratios": against})


def require_beauty() -> None:
    """Make the semantic IDs of Beauty if they are missing.

    Raises:
        SystemExit: Beauty is not in the workspace.
    """
    try:
        dataset()
    except UserError as error:
        sys.exit(f"{error}\nThe benchmarks use Beauty: import or download it as `beauty`.")


def save(name: str, figures: dict[str, Any]) -> None:
    """Write figures to benchmarks/results/NAME.json, with the command, the machine and the commit."""
    module = Path(sys.argv[0]).stem
    command = shlex.join(["python", "-m", f"benchmarks.{module}", *sys.argv[1:]])
    artifacts.write_json(
        RESULTS / f"{name}.json",
        {"command": command, "machine": artifacts.machine(), "commit": artifacts.commit(), **figures},
    )


def ratios(measurements: dict[str, list[Measurement]], reference: str) -> dict[str, float]:
    """Return the speed of each side relative to a reference: the median over the rounds of the ratio within a
    round.
    """
    base = measurements[reference]
    return {
        side: statistics.median(a["rate"] / b["rate"] for a, b in zip(rounds, base, strict=True))
        for side, rounds in measurements.items()
        if side not in (REFERENCE, GLIBC_REFERENCE)
    }


def _show(
    measurements: dict[str, list[Measurement]], against: dict[str, dict[str, float]], unit: str
) -> None:
    rows = []
    for side, rounds in measurements.items():
        rates = sorted(r["rate"] for r in rounds)
        spread = f"{rates[0]:.1f}–{rates[-1]:.1f}"
        peak = f"{max(r['peak_mib'] for r in rounds):.0f} MiB"
        times = (f"{factor[side]:.1f}×" if side in factor else None for factor in against.values())
        rows.append((side, f"{statistics.median(rates):.1f}", spread, peak, *times))
    headers = ["side", "median", "range", "peak memory", "× reference", "× with glibc's own settings"]
    console.table(f"{unit}/s", headers, rows, artifacts.machine())
