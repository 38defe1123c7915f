"""`make gpu-check`: all that the first quarter of an hour with a GPU should show, in one JSON file.

Parts: agreement with the CPU; throughput; ways of attention; training of `small` and of the preset, with
schedules that are fitted to the time, and their test evaluation. The JSON is written after every result. A
call does what fits into --total-minutes; the next one goes on with what is left. Two calls of six minutes do
everything.

The check needs torch (2.9 or later), pyarrow, accelerate, typer, rich, numpy and safetensors, and Beauty with
its semantic IDs: `make gpu-pack` makes a folder with them.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import RESULTS, require_beauty
from benchmarks.gpu.pack import KEPT, PACK
from benchmarks.gpu.parts import parts_of
from benchmarks.gpu.process import Conditions, Part, run_in_process
from benchmarks.gpu.record import FINISHED, Record
from maskgr_cli import console
from maskgr_cli.launch import USE_CPU
from pipelines import artifacts
from pipelines.train.presets import PRESET_NAMES
from pipelines.workspace import ENVIRONMENT


def main() -> None:
    began = time.monotonic()
    options = read_options()
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit(
            "PyTorch sees no GPU here. To try the check itself without one: "
            "make gpu-check DEVICE=cpu PRESET=smoke"
        )
    if options.device == "cpu":
        os.environ[USE_CPU] = "true"
    if PACK.exists():
        os.environ.setdefault(ENVIRONMENT, str(PACK))
    require_beauty()
    name = f"gpu-check-{options.device}-{options.preset}.json"
    folders = (KEPT, Path(os.environ.get("OUT") or RESULTS))
    record = Record.open(tuple(folder / name for folder in folders), options.again)
    record.content["calls"].append(
        {
            "command": shlex.join(["python", "-m", "benchmarks.gpu", *sys.argv[1:]]),
            "began": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "machine": artifacts.machine(),
        }
    )
    record.write()
    total = 60 * options.total_minutes
    for part in wanted(options, record):
        seconds = part.budget(total, began + total - time.monotonic())
        if seconds is None:
            console.note(f"{part.name}: left out, because it would not fit into the time of this call.")
            continue
        run_part(part, record, conditions_of(options, time.monotonic() + seconds))
    show(record, parts_of(options.preset))
    console.note(f"Results: {record.files[1]}")
    states = [record.parts.get(part.name, {}) for part in parts_of(options.preset)]
    if any(part.get("state") == "failed" or part.get("results", {}).get("failed") for part in states):
        sys.exit(1)


def read_options() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--preset", choices=PRESET_NAMES, default="paper")
    parser.add_argument("--total-minutes", type=float, default=6, help="minutes of this call")
    parser.add_argument("--seconds", type=float, default=3, help="duration of each measurement of a rate")
    parser.add_argument("--users", type=int, default=4096, help="number of test users of throughput; 0: all")
    parser.add_argument("--only", nargs="+", metavar="PART", help="parts to do, even if they are finished")
    parser.add_argument("--again", action="store_true", help="forget what earlier calls did")
    options = parser.parse_args()
    names = [part.name for part in parts_of(options.preset)]
    if unknown := {*(options.only or ())} - {*names}:
        parser.error(
            f"--only: there is no part {min(unknown)!r}; the parts are {', '.join(map(repr, names))}."
        )
    return options


def wanted(options: argparse.Namespace, record: Record) -> list[Part]:
    """Return the parts that this call tries, in their order."""
    parts = {part.name: part for part in parts_of(options.preset)}
    names = options.only or record.pending(list(parts))
    if not names:
        console.note("All parts are finished; --again does them anew, --only PART one of them.")
    return [parts[name] for name in names]


def conditions_of(options: argparse.Namespace, deadline: float) -> Conditions:
    """Return the conditions of a part."""
    return Conditions(options.device, options.preset, options.seconds, options.users, deadline)


def run_part(part: Part, record: Record, conditions: Conditions) -> None:
    """Run a part in a process of its own, and record what it reports as it comes."""
    console.note(f"{part.name}: {conditions.left:.0f} s at most.")
    failed_before = record.parts.get(part.name, {}).get("state", FINISHED) != FINISHED
    conditions = dataclasses.replace(
        conditions, failed_before=failed_before, throughput=record.results("throughput")
    )
    record.begin(part.name)
    began = time.monotonic()
    state, further = run_in_process(
        part.task, conditions, lambda key, value: record.add(part.name, key, value)
    )
    record.end(part.name, state, time.monotonic() - began, further)


def show(record: Record, parts: list[Part]) -> None:
    """Print a line for each part, and the tables of throughput."""
    sides: dict[str, dict[str, Any]] = {}
    for name, value in record.results("throughput").items():
        if ": " in name and isinstance(value, dict):
            sides[name] = value
    columns = list(dict.fromkeys(column for values in sides.values() for column in values))
    if sides:
        cells = [
            (name, *(figure(values.get(column)) for column in columns)) for name, values in sides.items()
        ]
        console.table("Throughput", ["", *columns], cells)
    rows = []
    for part in parts:
        known = record.parts.get(part.name, {"state": "left for the next call"})
        peaks = known.get("peak GiB", {})
        error = str(known.get("error", "")).strip().splitlines()[-1:]
        text = record.results(part.name).get("summary") or " ".join(error) or None
        cells_of_part = (known["state"], figure(known.get("seconds")))
        memory = (figure(peaks.get("allocated")), figure(peaks.get("host")))
        rows.append((part.name, *cells_of_part, *memory, text))
    headers = ["part", "state", "seconds", "peak GiB, GPU", "peak GiB, host", "result"]
    console.table("Check", headers, rows, artifacts.machine(), left=["state", "result"])


def figure(value: float | str | None) -> str | None:
    """Format a cell: large numbers without decimals, small ones with three significant digits."""
    if value is None or isinstance(value, str):
        return value
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    main()
