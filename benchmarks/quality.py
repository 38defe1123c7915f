"""What trained and evaluated runs are worth: the test metrics of each, mean and spread over runs that differ by seed only."""

from __future__ import annotations

import argparse
import copy
import statistics
from typing import Any

from benchmarks.common import save
from maskgr_cli import console
from pipelines import artifacts
from pipelines.workspace import Run, Workspace

METRICS = [(metric, k) for metric in ("recall", "ndcg") for k in (5, 10, 20)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", help="runs of the workspace, evaluated by `maskgr eval`")
    parser.add_argument("--save", metavar="NAME", help="write the figures to benchmarks/results/NAME.json")
    options = parser.parse_args()
    workspace, figures = Workspace.find(), []
    for name in options.runs:
        figures += measured(workspace.require_run(name))
    title = "Recall and NDCG of the test, all users, percent: mean ± standard deviation over seeds"
    headers = ["runs", "decoding", *(f"{metric[0].upper()}@{k}" for metric, k in METRICS), "minutes"]
    console.table(title, headers, rows(figures), artifacts.machine())
    if options.save:
        save(options.save, {"runs": figures})


def measured(run: Run) -> list[dict[str, Any]]:
    """Each evaluation of a run on the test: its metrics with 95 % intervals, the plan of the run, minutes and steps of training."""
    config, found = artifacts.read_json(run.config), []
    plan = {key: config[key] for key in ("dataset", "model", "preset", "sids", "sizes", "train", "steps", "seconds", "commit", "best")}
    for folder in run.evaluations:
        table = artifacts.read(folder / "metrics.parquet", "metrics").to_pylist()
        values = {f"{r['metric']}@{r['k']}": r for r in table if (r["metric"], r["k"]) in METRICS}
        found.append(
            {
                "run": run.name,
                "decoding": folder.name,
                "users": table[0]["users"],
                **{name: r["value"] for name, r in values.items()},
                **{f"{name} half interval": (r["high"] - r["low"]) / 2 for name, r in values.items()},
                **plan,
            }
        )
    return found


def rows(figures: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """A row for each set of evaluations that differ by seed only."""
    groups: list[tuple[dict, list[dict]]] = []
    for figure in figures:
        key = copy.deepcopy({name: figure[name] for name in ("decoding", "dataset", "model", "preset", "sids", "sizes", "train")})
        del key["train"]["seed"]
        same = next((members for other, members in groups if other == key), None)
        if same is None:
            groups.append((key, [figure]))
        else:
            same.append(figure)
    found = []
    for key, members in groups:
        cells = []
        for metric, k in METRICS:
            values = [100 * member[f"{metric}@{k}"] for member in members]
            cells.append(f"{statistics.mean(values):.2f}" + (f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""))
        minutes = statistics.mean(member["seconds"] for member in members) / 60
        found.append((", ".join(member["run"] for member in members), key["decoding"], *cells, f"{minutes:.1f}"))
    return found


if __name__ == "__main__":
    main()
