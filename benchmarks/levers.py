"""What each choice of the `small` preset is worth: validation Recall@10 against minutes of training, other things equal.

Every run is a run of the workspace, `lever-…`, trained by the command line; what is finished is not trained again. Nothing else should
run meanwhile.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.common import RESULTS, require_beauty, save
from maskgr_cli import console
from pipelines import artifacts
from pipelines.workspace import Workspace

APART = ["--likelihood", "digit", "--no-item-embeddings"]
LEVERS: dict[str, list[str]] = {  # what differs from the preset
    "small": [],
    "half of the items masked whole": ["--whole-item", "0.5"],
    "digits masked one by one only": ["--whole-item", "0"],
    "no item embeddings": ["--no-item-embeddings"],
    "digits apart, item embeddings": ["--likelihood", "digit", "--whole-item", "0"],
    "digits apart": [*APART, "--whole-item", "0", "--dropout", "0.1"],
    "digits apart, digit tokens": [*APART, "--tokens", "digit", "--whole-item", "0", "--dropout", "0.1"],
    "full attention": ["--attention", "full", "--next-item", "0.8"],
    "AdamW": ["--optimizer", "adamw"],
    "dropout 0.3": ["--dropout", "0.3"],
    "2 layers": ["--layers", "2"],
    "the paper's model and optimiser": ["--preset", "paper", "--validations", "10", "--validation-users", "2000"],
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=6)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", nargs="*", choices=LEVERS, help="levers to measure", default=[*LEVERS])
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/levers.json and .parquet")
    options = parser.parse_args()
    require_beauty()
    workspace, curves = Workspace.find(), []
    for seed in range(options.seeds):
        for lever in options.only:
            name = f"lever-{lever.replace(' ', '-').replace(',', '')}-{options.minutes:g}min-seed{seed}"
            command = [
                "train",
                "--dataset",
                "beauty",
                "--name",
                name,
                "--minutes",
                str(options.minutes),
                "--seed",
                str(seed),
                *LEVERS[lever],
            ]
            subprocess.run([sys.executable, "-m", "maskgr_cli.app", *command], check=True)
            curves += curve(workspace, name, lever, seed)
    table = pa.Table.from_pylist(curves)
    best: dict[str, list[float]] = {}
    for lever in options.only:
        points = [r for r in curves if r["lever"] == lever]
        best[lever] = [max(r["recall@10"] for r in points if r["seed"] == seed) for seed in range(options.seeds)]
    rows = [(lever, f"{100 * np.mean(found):.2f}", "  ".join(f"{100 * value:.2f}" for value in found)) for lever, found in best.items()]
    title = f"Validation Recall@10 after {options.minutes:g} minutes, 2,000 users of Beauty, best validation, percent"
    console.table(title, ["small, but", "mean", "seeds"], rows, artifacts.machine())
    if options.save:
        pq.write_table(table, RESULTS / "levers.parquet")
        save("levers", {"minutes": options.minutes, "best recall@10": best})


def curve(workspace: Workspace, name: str, lever: str, seed: int) -> list[dict]:
    """Each validation of a run, with the minutes of training before it."""
    history = artifacts.read(workspace.require_run(name).history, "history").to_pylist()
    steps, seconds = zip(*((r["step"], r["value"]) for r in history if r["measure"] == "seconds"), strict=True)
    validations = [(r["step"], r["value"]) for r in history if r["measure"] == "recall@10"]
    minutes = np.interp([step for step, _ in validations], steps, seconds) / 60
    shared = {"lever": lever, "seed": seed}
    return [{**shared, "step": step, "minutes": m, "recall@10": value} for (step, value), m in zip(validations, minutes, strict=True)]


if __name__ == "__main__":
    main()
