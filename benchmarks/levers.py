"""Validation Recall@10 against minutes of training, other things equal: of each choice of the `small` preset.

Every run is a run of the workspace, `lever-…`, trained by the command line; what is finished is not trained again. Seeds
train side by side, a core each; nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.common import RESULTS, require_beauty, save
from maskgr_cli import console
from pipelines import artifacts
from pipelines.train.history import validations
from pipelines.workspace import Workspace

FEW = ["--validation-users", "2000"]  # not all, where looking for an item takes beams
APART = ["--likelihood", "digit", "--no-repeat-bias", "--whole-item", "0", *FEW]
PLAIN = [*APART, "--no-item-embeddings", "--dropout", "0.1", "--label-smoothing", "0"]  # digits learn too slowly for more
LEVERS: dict[str, list[str]] = {  # what differs from the preset
    "small": [],
    "no item masked whole on purpose": ["--whole-item", "0"],
    "no item embeddings": ["--no-item-embeddings"],
    "digits apart": APART,
    "digits apart, no item embeddings": PLAIN,
    "the same, digit tokens": [*PLAIN, "--tokens", "digit"],
    "full attention": ["--attention", "full", "--no-repeat-bias", "--next-item", "0.8"],
    "AdamW": ["--optimizer", "adamw"],
    "no centroids": ["--no-centroids"],
    "no repeat bias": ["--no-repeat-bias"],
    "learning rate 0.003": ["--learning-rate", "0.003"],
    "no label smoothing": ["--label-smoothing", "0"],
    "learning rate falls in the last third": ["--decay", "0.33"],
    "steps of 128 sequences": ["--batch-size", "128"],
    "1,024 negatives": ["--negatives", "1024", "--no-repeat-bias"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=3, help="of each run")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--validations", type=int, default=6)
    parser.add_argument("--only", nargs="*", help="which of them to measure; all by default")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/levers.json, .parquet and .png")
    options = parser.parse_args()
    require_beauty()
    levers = {name: LEVERS[name] for name in options.only or LEVERS}
    workspace, curves = Workspace.find(), []
    for lever in levers:
        budget = ["--minutes", str(options.minutes), "--validations", str(options.validations), "--validation-users", "0"]
        names = [f"lever-{''.join(c if c.isalnum() else '-' for c in lever)}-{options.minutes:g}-{seed}" for seed in range(options.seeds)]
        side_by_side([["--name", name, "--seed", str(seed), *budget, *levers[lever]] for seed, name in enumerate(names)])
        for seed, name in enumerate(names):
            curves += curve(workspace, name, lever, seed)
    best = {lever: [max(r["recall@10"] for r in of(curves, lever, seed)) for seed in range(options.seeds)] for lever in levers}
    rows = [(lever, f"{100 * np.mean(found):.2f}", "  ".join(f"{100 * value:.2f}" for value in found)) for lever, found in best.items()]
    title = f"Validation Recall@10 in {options.minutes:g} minutes on one core, Beauty, best validation, percent"
    console.table(title, ["small, but", "mean", "seeds"], rows, artifacts.machine())
    if options.save:
        pq.write_table(pa.Table.from_pylist(curves), RESULTS / "levers.parquet")
        draw(curves, [*levers], RESULTS / "levers.png", title)
        save("levers", {"minutes": options.minutes, "best recall@10": best})


def side_by_side(runs: list[list[str]]) -> None:
    """Train several runs at the same time, as many as there are cores, one on each."""
    cores = sorted(os.sched_getaffinity(0))
    for first in range(0, len(runs), len(cores)):
        started = [
            subprocess.Popen(
                ["taskset", "--cpu-list", str(core), sys.executable, "-m", "maskgr_cli.app", "train", "--dataset", "beauty", *options],
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            for core, options in zip(cores, runs[first:], strict=False)
        ]
        if max(process.wait() for process in started):
            sys.exit("A run failed; see above.")


def curve(workspace: Workspace, name: str, lever: str, seed: int) -> list[dict]:
    """Each validation of a run, with the minutes of training before it."""
    run = workspace.require_run(name)
    shared = {"lever": lever, "seed": seed, "commit": artifacts.read_json(run.config)["commit"]}
    return [{**shared, **point} for point in validations(run)]


def of(curves: list[dict], lever: str, seed: int) -> list[dict]:
    """One run's validations."""
    return [r for r in curves if (r["lever"], r["seed"]) == (lever, seed)]


def draw(curves: list[dict], levers: list[str], path: Path, title: str) -> None:
    """A panel a lever: its runs in black over those of the preset in grey."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    seeds, columns = sorted({r["seed"] for r in curves}), 4
    rows = -(-len(levers) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(12, 1.2 + 2.1 * rows), sharex=True, sharey=True)
    for panel, lever in zip(axes.flat, levers, strict=False):
        below, above = {"color": "0.65", "linewidth": 3}, {"color": "black", "marker": "o", "markersize": 3}
        for name, style in ((levers[0], below), (lever, above)):
            for seed in seeds:
                points = of(curves, name, seed)
                panel.plot([r["minutes"] for r in points], [100 * r["recall@10"] for r in points], **style)
        panel.set_title(lever, fontsize=9)
        panel.grid(alpha=0.3)
    for place, panel in enumerate(axes.flat):
        panel.tick_params(labelbottom=len(levers) - columns <= place)
        if place >= len(levers):
            panel.set_axis_off()
    figure.supxlabel("minutes of training", fontsize=10)
    figure.supylabel("Recall@10, percent", fontsize=10)
    figure.suptitle(f"{title}\n{artifacts.machine()}; grey: {levers[0]}", fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
