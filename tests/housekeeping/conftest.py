"""A workspace with two runs that were evaluated and compared, without any training."""

from __future__ import annotations

import pyarrow as pa
import pytest

from pipelines import artifacts
from pipelines.workspace import Workspace
from tests.test_inventory import write_embeddings, write_metrics, write_run, write_sids

DECODING = "greedy-t3"


def write_comparison(workspace: Workspace, baseline: str, run: str) -> None:
    values = {"baseline_value": 0.1, "value": 0.2, "difference": 0.1, "low": 0.0, "high": 0.2, "p": 0.05}
    names = {"evaluation": DECODING, "baseline": baseline, "run": run, "metric": "recall"}
    row = {**names, "k": 10, **values, "users": 200}
    kinds = artifacts.SCHEMAS["comparison"]
    artifacts.write(
        workspace.comparisons(DECODING, baseline) / f"{run}.parquet",
        "comparison",
        pa.table({name: pa.array([row[name]], kind) for name, kind in kinds.items()}),
        config={"baseline": baseline, "run": run},
        inputs={
            "baseline": workspace.run(baseline).evaluation(DECODING) / "metrics.parquet",
            "run": workspace.run(run).evaluation(DECODING) / "metrics.parquet",
        },
    )


@pytest.fixture
def compared(toy: Workspace) -> Workspace:
    """Data set "toy" with embeddings, semantic IDs, a study, and runs "first" and "second", compared."""
    dataset = toy.dataset("toy")
    write_embeddings(dataset)
    write_sids(dataset)
    for name in ("first", "second"):
        write_metrics(write_run(toy, name), dataset, DECODING)
    write_comparison(toy, "first", "second")
    artifacts.write_json(toy.study("search") / "study.json", {"dataset": "toy", "sids": None, "space": {}})
    return toy
