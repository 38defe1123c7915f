"""Readers of history.parquet, the record of a training."""

from __future__ import annotations

import numpy as np

from pipelines import artifacts
from pipelines.errors import UserError
from pipelines.workspace import Run


def validations(run: Run) -> list[dict[str, float]]:
    """Return the validations of a run, oldest first.

    Returns:
        For each validation: "step", the number of steps before it; "minutes", the minutes of training before
        its end; "recall@10", its Recall@10 as a fraction.

    Raises:
        UserError: The history cannot be read.
    """
    history = artifacts.read(run.history, "history").to_pylist()
    times = [(row["step"], row["value"]) for row in history if row["measure"] == "seconds"]
    if not times:
        raise UserError(
            f"{run.history} does not hold the times of its steps. Train the run again with --force."
        )
    steps, seconds = zip(*times, strict=True)
    recalls = [(row["step"], row["value"]) for row in history if row["measure"] == "recall@10"]
    minutes = np.interp([step for step, _ in recalls], steps, seconds) / 60
    return [
        {"step": step, "minutes": passed, "recall@10": recall}
        for (step, recall), passed in zip(recalls, minutes, strict=True)
    ]
