"""What history.parquet says of a training."""

from __future__ import annotations

import numpy as np

from pipelines import artifacts
from pipelines.errors import UserError
from pipelines.workspace import Run


def validations(run: Run) -> list[dict[str, float]]:
    """Each validation of a run: its step, the minutes of training before it (validation included), its Recall@10 as a fraction.

    Raises:
        UserError: the history cannot be read.
    """
    history = artifacts.read(run.history, "history").to_pylist()
    times = [(r["step"], r["value"]) for r in history if r["measure"] == "seconds"]
    if not times:
        raise UserError(f"{run.history} holds no times of its steps. Train the run again with --force.")
    steps, seconds = zip(*times, strict=True)
    found = [(r["step"], r["value"]) for r in history if r["measure"] == "recall@10"]
    minutes = np.interp([step for step, _ in found], steps, seconds) / 60
    return [
        {"step": step, "minutes": m, "recall@10": value}
        for (step, value), m in zip(found, minutes, strict=True)
    ]
