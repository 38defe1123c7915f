"""Tables of one run: what differs from its preset, its curves, its settings and its metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from maskgr_cli.metrics_table import by_warmth, metrics_table
from maskgr_cli.options import worded
from maskgr_cli.sparkline import sparkline
from maskgr_cli.tables import Column, Table, count, percent
from pipelines import artifacts
from pipelines.views.run import Curve, departures
from pipelines.workspace import Run, RunConfig

SETTINGS = (Column("setting", ("setting",)), Column("value", ("value",)))
MEMBERS = (
    Column("member", ("run",)),
    Column("weight", ("weight",), lambda weight: f"{weight:.3g}"),
    *(Column(title, (key,)) for title, key in (("model", "model"), ("SIDs", "sids"), ("preset", "preset"))),
    Column("seed", ("seed",)),
    Column("steps", ("steps",), count),
    Column("validation R@10", ("validation_recall@10",), percent),
)
DEPARTURES = (
    Column("option", ("option",)),
    Column("this run", ("value",), lambda value: _worded(value)),
    Column("preset", ("preset_value",), lambda value: _worded(value)),
)


def run_tables(run: Run, config: RunConfig, curves: list[Curve], drawn: bool) -> list[Table]:
    """Return the tables of a run.

    Args:
        run: the run.
        config: content of its config.json.
        curves: its curves.
        drawn: if true, the curves are drawn as bars; LaTeX has no characters for these.

    Raises:
        UserError: metrics are damaged.
    """
    own = {key: value for key, value in config.items() if key != "members"}
    settings = [{"setting": name, "value": value} for name, value in _flat(own)]
    differing = [{"option": d.option, "value": d.value, "preset_value": d.preset} for d in departures(config)]
    preset = Table("preset", f"What differs from the preset {config.get('preset')}", DEPARTURES, differing)
    tables = [Table("settings", f"Run {run.name}", SETTINGS, settings), members_table(run.name, config)]
    tables += [preset, _curve_table(curves, drawn)]
    metrics: list[tuple[Mapping[str, Any], Any]] = [
        ({"evaluation": path.name}, artifacts.read(path / "metrics.parquet", "metrics"))
        for path in run.evaluations
    ]
    evaluations, targets = Table("evaluations", "", (), ()), Table("targets", "", (), ())
    if metrics:
        evaluations = metrics_table("evaluations", metrics, f"Evaluations of {run.name}")
    if apart := by_warmth(metrics):
        note = "cold: items without a training interaction"
        targets = metrics_table("targets", apart, "Cold and warm targets", note)
    return [*tables, evaluations, targets]


def members_table(name: str, config: RunConfig) -> Table:
    """Return the table of a committee's members, without rows for another run.

    Args:
        name: name of the run.
        config: content of its config.json.
    """
    rows = []
    for member in config.get("members", ()):
        its = member["config"]
        best, seed = its.get("best"), its.get("train", {}).get("seed")
        values = {key: its.get(key) for key in ("model", "sids", "preset", "steps")}
        measured = {"seed": seed, "validation_recall@10": best["recall@10"] if best else None}
        rows.append({"run": member["run"], "weight": member["weight"], **values, **measured})
    caption = f"weights: {config.get('weighting')}"
    return Table("members", f"Members of {name}", MEMBERS, rows, caption)


def _curve_table(curves: list[Curve], drawn: bool) -> Table:
    rows = [{"measure": curve.measure, "steps": curve.steps, "values": curve.values} for curve in curves]
    ends = {"first": lambda v: v[0], "last": lambda v: v[-1], "lowest": min, "highest": max}
    columns = [
        Column("curve", ("measure",)),
        Column("steps", ("steps",), lambda steps: f"{steps[0]:,} to {steps[-1]:,}"),
        *(
            Column(
                title, ("measure", "values"), lambda measure, values, end=end: _value(measure, end(values))
            )
            for title, end in ends.items()
        ),
    ]
    if drawn:
        columns.append(Column("", ("values",), sparkline, left=True))
    return Table("curves", "Curves", columns, rows, "recall@10 in percent, on validation users")


def _value(measure: str, value: float) -> str | None:
    return percent(value) if measure == "recall@10" else f"{value:.4g}"


def _worded(value: Any) -> str | None:
    return None if value is None else worded(value)


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield the entries of nested objects as path.to.key and value."""
    for key, entry in value.items():
        if isinstance(entry, dict):
            yield from _flat(entry, f"{prefix}{key}.")
        else:
            yield prefix + key, entry
