"""What a grid found, as one tidy table: a row for each cell, seed and metric."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipelines import artifacts
from pipelines.ablate.engine import DONE, run_result
from pipelines.ablate.metrics import Metric, metric
from pipelines.ablate.planning import PlannedRun
from pipelines.ablate.published import departures
from pipelines.ablate.recipe import Recipe
from pipelines.decode.config import ORDERS
from pipelines.download.statistics import statistics
from pipelines.workspace import Workspace

Measured = dict[str, float | int | None]  # value, low, high, users


def collect(workspace: Workspace, recipe: Recipe, planned: list[PlannedRun], budget: str) -> pa.Table:
    """The figures of all cells; an artifact of kind "grid". A cell without has rows too, with its state and the reason.

    Values are as the artifacts hold them: fractions, nats, counts.
    """
    metrics = [metric(label) for label in recipe.metrics]
    options = list(dict.fromkeys(option for cell in planned for option in cell.cell.setting))
    rows = []
    for cell in planned:
        found = run_result(workspace, cell)
        shared = {
            "recipe": recipe.name,
            "budget": budget,
            **_identity(cell),
            **_origin(workspace, cell, found),
        }
        shared["departures"] = departures(recipe, cell.cell, cell.plan and cell.plan.sids)
        shared |= {option: _text(cell.cell.setting.get(option)) for option in options}
        rows += [{**shared, "metric": m.label, **_figures(workspace, cell, found, m)} for m in metrics]
    kinds = {**artifacts.SCHEMAS["grid"], **dict.fromkeys(("departures", *options), pa.string())}
    return pa.table(
        {column: pa.array([row.get(column) for row in rows], kind) for column, kind in kinds.items()}
    )


def _identity(cell: PlannedRun) -> dict[str, Any]:
    return {name: getattr(cell.cell, name) for name in ("dataset", "system", "label", "model", "seed")}


def _origin(workspace: Workspace, cell: PlannedRun, found: dict[str, Any]) -> dict[str, Any]:
    """State of a cell, where its figures come from, and how long they took, in seconds."""
    origin = {"state": found["state"], "reason": found.get("reason"), "inputs": json.dumps(cell.inputs)}
    if found["state"] != DONE or not found.get("files"):
        return {**origin, "machine": artifacts.machine(), "commit": artifacts.commit()}
    path = found["files"][0]
    trained, evaluated = workspace.run(cell.run).read_config(), artifacts.provenance(path) or {}
    return {
        **origin,
        "run": cell.run,
        "evaluation": path.parent.name,
        "description": found["description"],
        "train_seconds": trained.get("seconds"),
        "eval_seconds": evaluated.get("seconds"),
        "commit": trained.get("commit"),
        "machine": trained.get("machine"),
    }


def _figures(workspace: Workspace, cell: PlannedRun, found: dict[str, Any], asked: Metric) -> Measured:
    if found["state"] != DONE:
        return {}
    if asked.source == "statistics":
        counted = statistics(workspace.dataset(cell.cell.dataset))
        return {"value": float(getattr(counted, asked.name))}
    by_kind = {path.stem: path for path in found.get("files", [])}
    if asked.source == "diagnosis":
        return _diagnosed(by_kind["diagnosis"], asked.name) if "diagnosis" in by_kind else {}
    if "metrics" not in by_kind:
        return {}
    for row in artifacts.read(by_kind["metrics"], "metrics").to_pylist():
        if (row["metric"], row["k"]) == (asked.name, asked.k):
            return {name: row[name] for name in ("value", "low", "high", "users")}
    return {}


def _diagnosed(path: Path, measure: str) -> Measured:
    """The mean dependence over pairs of digits; what one evaluation loses against revealing digit by digit in greedy order."""
    found = [row for row in artifacts.read(path, "diagnosis").to_pylist() if row["measure"] == measure]
    rows = [row for row in found if row["evaluations"] in (None, 1) and row["order"] in (None, ORDERS[0])]
    return {"value": sum(row["value"] for row in rows) / len(rows), "users": rows[0]["users"]} if rows else {}


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
