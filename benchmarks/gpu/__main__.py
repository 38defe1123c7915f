"""`make gpu-check`: does maskgr work on this GPU, how fast, and what does it learn there? One JSON says it all.

Needs torch, pyarrow, accelerate, typer, rich, numpy and safetensors, and Beauty with its semantic IDs in the workspace, which another
machine can have made (`maskgr import`, `maskgr tokenize`; copy the workspace). Training goes on where the last call stopped it.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from typing import Any

import torch

from benchmarks.common import RESULTS, require_beauty, save
from benchmarks.gpu.agreement import checks
from benchmarks.gpu.throughput import measure
from maskgr_cli import console
from maskgr_cli.allocator import keep_freed_memory
from maskgr_cli.launch import USE_CPU
from pipelines import artifacts
from pipelines.train.history import validations
from pipelines.train.presets import PRESET_NAMES
from pipelines.workspace import Run, Workspace

PARTS = ("agreement", "throughput", "training")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--preset", choices=PRESET_NAMES, default="paper")
    parser.add_argument("--minutes", type=float, default=15, help="of training in this call")
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement of throughput")
    parser.add_argument(
        "--users", type=int, default=0, help="of the test that evaluation is timed on; 0: all"
    )
    parser.add_argument("--only", nargs="*", choices=PARTS, default=PARTS)
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit(
            "PyTorch sees no GPU here. To see that the check itself works: make gpu-check DEVICE=cpu PRESET=smoke"
        )
    if options.device == "cpu":
        os.environ[USE_CPU] = "true"
    keep_freed_memory()
    require_beauty()
    name = f"gpu-check-{options.device}-{options.preset}"
    earlier = RESULTS / f"{name}.json"
    found = {
        part: value
        for part, value in (artifacts.read_json(earlier) if earlier.exists() else {}).items()
        if part in PARTS
    }
    device = torch.device(options.device)
    if "agreement" in options.only:
        found["agreement"] = agreement(device)
    if "throughput" in options.only:
        found["throughput"] = measure(device, options.preset, options.seconds, options.users)
        show_throughput(found["throughput"])
    if "training" in options.only:
        found["training"] = train(
            options.device, options.preset, options.minutes, found.get("training", {}).get("slices", [])
        )
    save(
        name,
        {
            "device": torch.cuda.get_device_name(0) if device.type == "cuda" else "cpu",
            "torch": torch.__version__,
            **found,
        },
    )
    print(f"Written to {earlier}.")
    if any(not check["passed"] for check in found.get("agreement", [])):
        sys.exit(1)


def agreement(device: torch.device) -> list[dict[str, Any]]:
    """All checks, those that fail shown."""
    done = list(checks(device))
    failed = [check for check in done if not check.passed]
    for check in failed:
        print(f"FAILED: {check.name}: {check.off:.2g}, {check.allowed:g} allowed. {check.detail}")
    print(f"{len(done) - len(failed)} of {len(done)} checks passed: {device} against the CPU.")
    return [{**asdict(check), "passed": check.passed} for check in done]


def show_throughput(found: dict[str, Any]) -> None:
    """A table of each part."""
    for part in ("training", "evaluation"):
        columns = list(dict.fromkeys(column for values in found[part].values() for column in values))
        rows = []
        for side, values in found[part].items():
            cells = (values.get(column) for column in columns)
            rows.append((side, *(figure(cell) for cell in cells)))
        console.table(f"{part}, {found['preset']} preset", [part, *columns], rows, artifacts.machine())


def figure(value: float | str | None) -> str | None:
    """A cell: large numbers whole, small ones with three digits."""
    if value is None or isinstance(value, str):
        return value
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def train(device: str, preset: str, minutes: float, slices: list[dict[str, Any]]) -> dict[str, Any]:
    """Train for some minutes more, by the command line, and evaluate where training is over."""
    workspace = Workspace.find()
    run, where = workspace.run(f"gpu-check-{device}-{preset}"), ["--gpus", "1" if device == "cuda" else "0"]
    trained = artifacts.read_json(run.config) if run.config.exists() else {"state": None, "seconds": 0.0}
    begin = (
        ["--resume", "--name", run.name]
        if trained["state"]
        else ["--dataset", "beauty", "--preset", preset, "--name", run.name]
    )
    if trained["state"] != "finished":
        process = subprocess.Popen([sys.executable, "-m", "maskgr_cli", "train", *begin, *where])
        try:
            process.wait(minutes * 60)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)  # which saves the state
            process.wait()
        if not run.config.exists():
            sys.exit(
                f"Training did not begin in {minutes:g} minutes (exit code {process.returncode}). Look above, or give more --minutes."
            )
        before, trained = trained["seconds"], artifacts.read_json(run.config)
        slices = [*slices, {"seconds": trained["seconds"] - before, "exit code": process.returncode}]
    found = {"slices": slices, **{name: trained[name] for name in ("state", "steps", "seconds", "best")}}
    found["validation"] = validations(run) if run.history.exists() else []
    if run.weights.exists():
        subprocess.run([sys.executable, "-m", "maskgr_cli", "eval", run.name, "--force", *where], check=True)
        found["test"] = measures(run)
    return found


def measures(run: Run) -> dict[str, float]:
    """The test's metrics by name, e.g. "recall@10", in percent."""
    newest = max(run.evaluations, key=lambda folder: (folder / "metrics.parquet").stat().st_mtime)
    rows = artifacts.read(newest / "metrics.parquet", "metrics").to_pylist()
    return {f"{r['metric']}@{r['k']}": 100 * r["value"] for r in rows}


if __name__ == "__main__":
    main()
