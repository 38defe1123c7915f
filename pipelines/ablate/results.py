"""Results of a grid as one table: a row for each cell and metric."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypedDict

import pyarrow as pa

from pipelines import artifacts
from pipelines.ablate.metrics import Metric, find_metric
from pipelines.ablate.planning import PlannedRun
from pipelines.ablate.published import departures
from pipelines.ablate.recipe import Recipe
from pipelines.ablate.state import DONE, RunResult, run_result
from pipelines.decode.config import ORDERS
from pipelines.download.statistics import statistics
from pipelines.workspace import Workspace


class Measurement(TypedDict, total=False):
    """Value of a metric, its 95 % interval, and the number of users."""

    value: float
    low: float | None
    high: float | None
    users: int


def collect(workspace: Workspace, recipe: Recipe, planned_runs: list[PlannedRun], budget: str) -> pa.Table:
    """Collect the values of all cells in an artifact of kind "grid".

    A cell without values has rows too, with its state and the reason. Values have the units of the artifacts:
    fractions, nats, counts.

    Raises:
        UserError: an artifact is damaged.
    """
    metrics = [find_metric(label) for label in recipe.metrics]
    options = list(
        dict.fromkeys(option for planned in planned_runs for option in planned.cell.varied_options)
    )
    rows = []
    for planned in planned_runs:
        result = run_result(workspace, planned)
        sids = planned.plan.sids if planned.plan else None
        shared = {
            "recipe": recipe.name,
            "budget": budget,
            **_identity(planned),
            **_origin(workspace, planned, result),
            "departures": departures(recipe, planned.cell, sids),
            **{option: _text(planned.cell.varied_options.get(option)) for option in options},
        }
        for metric in metrics:
            rows.append({**shared, "metric": metric.label, **_measure(workspace, planned, result, metric)})
    types = {**artifacts.SCHEMAS["grid"], **dict.fromkeys(("departures", *options), pa.string())}
    return pa.table(
        {
            column: pa.array([row.get(column) for row in rows], arrow_type)
            for column, arrow_type in types.items()
        }
    )


def _identity(planned: PlannedRun) -> dict[str, Any]:
    return {name: getattr(planned.cell, name) for name in ("dataset", "system", "label", "model", "seed")}


def _origin(workspace: Workspace, planned: PlannedRun, result: RunResult) -> dict[str, Any]:
    """Return the state of a cell, the origin of its values, and the durations in seconds."""
    origin = {"state": result.state, "reason": result.reason, "inputs": json.dumps(planned.inputs)}
    if result.state != DONE or not result.files:
        return {**origin, "machine": artifacts.machine(), "commit": artifacts.commit()}
    path = result.files[0]
    config = workspace.run(planned.run).read_config()
    provenance = artifacts.provenance(path)
    return {
        **origin,
        "run": planned.run,
        "evaluation": path.parent.name,
        "description": result.description,
        "train_seconds": config.get("seconds"),
        "eval_seconds": provenance["seconds"] if provenance else None,
        "commit": config.get("commit"),
        "machine": config.get("machine"),
    }


def _measure(workspace: Workspace, planned: PlannedRun, result: RunResult, metric: Metric) -> Measurement:
    """Return the value of a metric; empty if there is none."""
    if result.state != DONE:
        return {}
    if metric.source == "statistics":
        counts = statistics(workspace.dataset(planned.cell.dataset))
        return {"value": float(getattr(counts, metric.name))}
    paths = {path.stem: path for path in result.files}
    if metric.source == "diagnosis":
        return _diagnosed(paths["diagnosis"], metric.name) if "diagnosis" in paths else {}
    if "metrics" not in paths:
        return {}
    for row in artifacts.read(paths["metrics"], "metrics").to_pylist():
        if (row["metric"], row["k"]) == (metric.name, metric.k):
            return {"value": row["value"], "low": row["low"], "high": row["high"], "users": row["users"]}
    return {}


def _diagnosed(path: Path, measure: str) -> Measurement:
    """Return a value of a diagnosis.

    For "dependence" it is the mean over all pairs of digits. For "joint_loss" it is the log-likelihood that
    one function evaluation loses against unmasking digit by digit in greedy order.
    """
    rows = [
        row
        for row in artifacts.read(path, "diagnosis").to_pylist()
        if row["measure"] == measure and row["evaluations"] in (None, 1) and row["order"] in (None, ORDERS[0])
    ]
    if not rows:
        return {}
    return {"value": sum(row["value"] for row in rows) / len(rows), "users": rows[0]["users"]}


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
