"""What history.parquet tells of a training."""

from __future__ import annotations

import pyarrow as pa
import pytest

from pipelines import artifacts
from pipelines.train.history import validations
from pipelines.workspace import Workspace


def test_validations_lie_between_the_records_of_time(workspace: Workspace) -> None:
    run = workspace.run("any")
    rows = [
        (0, "seconds", 0.0),
        (0, "loss", 9.0),
        (100, "seconds", 120.0),
        (25, "recall@10", 0.1),
        (100, "recall@10", 0.4),
    ]
    step, measure, value = zip(*rows, strict=True)
    artifacts.write(
        run.history,
        "history",
        pa.table({"step": pa.array(step, pa.int64()), "measure": measure, "value": value}),
        config={},
    )
    expected = [
        {"step": 25, "minutes": 0.5, "recall@10": 0.1},
        {"step": 100, "minutes": 2.0, "recall@10": 0.4},
    ]
    assert validations(run) == [pytest.approx(row) for row in expected]
