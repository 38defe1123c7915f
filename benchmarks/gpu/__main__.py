"""`make gpu-check`: agreement of this GPU with the CPU, throughput, and training on Beauty, in one JSON file.

The check needs torch, pyarrow, accelerate, typer, rich, numpy and safetensors, and Beauty with its semantic
IDs in the workspace. Another machine can make them (`maskgr import`, `maskgr tokenize`; copy the workspace).
Training resumes where the last call stopped it.
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
    parser.add_argument("--minutes", type=float, default=15, help="minutes of training in this call")
    parser.add_argument(
        "--seconds", type=float, default=10, help="duration of each measurement of throughput"
    )
    parser.add_argument("--users", type=int, default=0, help="number of test users for evaluation; 0: all")
    parser.add_argument("--only", nargs="*", choices=PARTS, default=PARTS, help="parts of the check to run")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit(
            "PyTorch sees no GPU here. To try the check itself without one: "
            "make gpu-check DEVICE=cpu PRESET=smoke"
        )
    if options.device == "cpu":
        os.environ[USE_CPU] = "true"
    keep_freed_memory()
    require_beauty()
    name = f"gpu-check-{options.device}-{options.preset}"
    earlier = RESULTS / f"{name}.json"
    recorded = artifacts.read_json(earlier) if earlier.exists() else {}
    results = {part: value for part, value in recorded.items() if part in PARTS}
    device = torch.device(options.device)
    if "agreement" in options.only:
        results["agreement"] = agreement(device)
    if "throughput" in options.only:
        results["throughput"] = measure(device, options.preset, options.seconds, options.users)
        show_throughput(results["throughput"])
    if "training" in options.only:
        slices = results.get("training", {}).get("slices", [])
        results["training"] = train(options.device, options.preset, options.minutes, slices)
    device_name = torch.cuda.get_device_name(0) if device.type == "cuda" else "cpu"
    save(name, {"device": device_name, "torch": torch.__version__, **results})
    print(f"Written to {earlier}.")
    if any(not check["passed"] for check in results.get("agreement", [])):
        sys.exit(1)


def agreement(device: torch.device) -> list[dict[str, Any]]:
    """Run all checks of agreement, and print those that fail."""
    results = list(checks(device))
    failed = [check for check in results if not check.passed]
    for check in failed:
        print(f"FAILED: {check.name}: {check.off:.2g}, {check.allowed:g} allowed. {check.detail}")
    print(f"{len(results) - len(failed)} of {len(results)} checks passed: {device} against the CPU.")
    return [{**asdict(check), "passed": check.passed} for check in results]


def show_throughput(throughput: dict[str, Any]) -> None:
    """Print a table of each part."""
    for part in ("training", "evaluation"):
        columns = list(dict.fromkeys(column for values in throughput[part].values() for column in values))
        rows = []
        for side, values in throughput[part].items():
            cells = (values.get(column) for column in columns)
            rows.append((side, *(figure(cell) for cell in cells)))
        console.table(f"{part}, {throughput['preset']} preset", [part, *columns], rows, artifacts.machine())


def figure(value: float | str | None) -> str | None:
    """Format a cell: large numbers without decimals, small ones with three significant digits."""
    if value is None or isinstance(value, str):
        return value
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def train(device: str, preset: str, minutes: float, slices: list[dict[str, Any]]) -> dict[str, Any]:
    """Train for some more minutes by the command line, and evaluate if the training is finished.

    Args:
        device: "cuda" or "cpu".
        preset: preset of `maskgr`.
        minutes: minutes of training in this call.
        slices: duration and exit code of earlier calls.
    """
    run = Workspace.find().run(f"gpu-check-{device}-{preset}")
    gpus = ["--gpus", "1" if device == "cuda" else "0"]
    trained = artifacts.read_json(run.config) if run.config.exists() else {"state": None, "seconds": 0.0}
    start = ["--resume"] if trained["state"] else ["--dataset", "beauty", "--preset", preset]
    if trained["state"] != "finished":
        command = [sys.executable, "-m", "maskgr_cli", "train", *start, "--name", run.name, *gpus]
        process = subprocess.Popen(command)
        try:
            process.wait(minutes * 60)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)  # it saves its state
            process.wait()
        if not run.config.exists():
            sys.exit(
                f"Training did not begin in {minutes:g} minutes (exit code {process.returncode}). See the "
                "output above, or give more --minutes."
            )
        before, trained = trained["seconds"], artifacts.read_json(run.config)
        slices = [*slices, {"seconds": trained["seconds"] - before, "exit code": process.returncode}]
    results = {"slices": slices, **{name: trained[name] for name in ("state", "steps", "seconds", "best")}}
    results["validation"] = validations(run) if run.history.exists() else []
    if run.weights.exists():
        subprocess.run([sys.executable, "-m", "maskgr_cli", "eval", run.name, "--force", *gpus], check=True)
        results["test"] = newest_metrics(run)
    return results


def newest_metrics(run: Run) -> dict[str, float]:
    """Return the metrics of the newest evaluation by name, e.g. "recall@10", in percent."""
    newest = max(run.evaluations, key=lambda folder: (folder / "metrics.parquet").stat().st_mtime)
    rows = artifacts.read(newest / "metrics.parquet", "metrics").to_pylist()
    return {f"{r['metric']}@{r['k']}": 100 * r["value"] for r in rows}


if __name__ == "__main__":
    main()
