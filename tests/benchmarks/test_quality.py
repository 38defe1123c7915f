"""Means over seeds, of runs that differ by seed only."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from benchmarks import quality
from pipelines import artifacts
from pipelines.workspace import Workspace


def evaluated(workspace: Workspace, name: str, seed: int, recall: float, **train: Any) -> list[dict[str, Any]]:
    run = workspace.run(name)
    plan = {"dataset": "toy", "model": "maskgr", "preset": "small", "sids": "lsa", "sizes": {"width": 8}, "train": {"seed": seed, **train}}
    artifacts.write_json(run.config, {**plan, "steps": 5, "seconds": 60.0, "commit": "abc", "best": None})
    values = [(metric, k, recall / k, recall / k - 0.01, recall / k + 0.01, 30) for metric, k in quality.METRICS]
    schema = artifacts.SCHEMAS["metrics"]
    columns = {name: pa.array(column, schema[name]) for name, column in zip(schema, zip(*values, strict=True), strict=True)}
    artifacts.write(run.evaluation("greedy-k20-constrained") / "metrics.parquet", "metrics", pa.table(columns), config={})
    return quality.measured(run)


def test_only_seeds_are_averaged(workspace: Workspace) -> None:
    figures = evaluated(workspace, "a", 0, 0.5) + evaluated(workspace, "b", 1, 0.7) + evaluated(workspace, "c", 1, 0.7, minutes=3)
    assert figures[0]["recall@10 half interval"] == pytest.approx(0.01)
    first, second = quality.rows(figures)
    assert first[:2] == ("a, b", "greedy-k20-constrained")
    assert first[3] == "6.00 ± 1.41"  # 5 and 7 percent at k = 10: deviations of 1, and n − 1 = 1
    assert second[0] == "c"
    assert second[3] == "7.00"
    assert second[-1] == "1.0"
