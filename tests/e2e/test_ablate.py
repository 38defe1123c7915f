"""`maskgr ablate` on the command line."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable

from pipelines import artifacts
from pipelines.workspace import Workspace

GRID = [
    "--sids",
    2,
    "--codebook",
    64,
    "--steps",
    3,
    "--nfe",
    "1..2",
    "--beams",
    10,
    "--metrics",
    "R@5,invalid",
    "--budget",
    "smoke",
]


def test_a_grid_with_a_process_for_each_run(
    toy: Workspace, maskgr: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = maskgr("ablate", *GRID, "--jobs", 2)
    assert done.returncode == 0, done.stderr
    assert "Ablation: 2 cells, 1 run to train or evaluate, budget smoke." in done.stderr
    folder = toy.report("ablation-smoke")
    rows = artifacts.read(folder / "results.parquet", "grid").to_pylist()
    assert [(row["nfe"], row["metric"]) for row in rows] == [
        (nfe, metric) for nfe in "12" for metric in ("R@5", "invalid")
    ]
    for row in rows:
        name = "recall" if row["metric"] == "R@5" else "invalid_rate"
        metrics = artifacts.read(
            toy.run(row["run"]).evaluation(row["evaluation"]) / "metrics.parquet", "metrics"
        ).to_pylist()
        assert row["value"] == next(m["value"] for m in metrics if m["metric"] == name)
    assert len({row["run"] for row in rows}) == len(toy.runs) == 1
    shown = re.findall(r"maskgr, ours: [^│]*│ +([\d.]+) │", done.stdout)
    assert shown == [f"{100 * row['value']:.2f}" for row in rows if row["metric"] == "R@5"]
    assert {path.name for path in folder.iterdir()} == {
        "results.parquet",
        "curves.parquet",
        "groups.parquet",
        "report.html",
        "table.md",
        "plot.png",
        "curves.png",
        "groups.png",
    }
    groups = artifacts.read(folder / "groups.parquet", "groups").to_pylist()
    run, by = rows[0]["run"], "popularity"
    done = maskgr("eval", run, "--nfe", 1, "--beams", 10, "--by", by, "--format", "json")
    assert "is evaluated already" in done.stderr, done.stderr
    printed = [row for row in json.loads(done.stdout)["groups"] if row["run"].startswith(run)]
    collected = [row for row in groups if (row["label"], row["grouping"]) == ("maskgr · nfe 1", by)]
    assert printed
    assert [row["value"] for row in collected if row["metric"] == "R@10"] == [
        row["recall@10"] for row in printed
    ]
