"""`maskgr show`: list the artifacts of the workspace and why they are stale, or show one run in full."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maskgr_cli import console, tables
from maskgr_cli.options import WorkspaceOption
from maskgr_cli.tables import Column, FormatOption, Table, count, percent
from pipelines.workspace import Run, Workspace

if TYPE_CHECKING:
    from pipelines.inventory import EvaluationView, Overview

STALE = Column("stale", ("stale",), optional=True)
DATASETS = (
    Column("data set", ("name", "current"), lambda name, current: name + " (current)" * current),
    *(Column(key, (key,), count) for key in ("users", "items", "interactions")),
    STALE,
)
EMBEDDINGS = (
    Column("embeddings", ("name",)),
    Column("data set", ("dataset",)),
    Column("items", ("items",), count),
    Column("width", ("width",)),
    Column("type", ("dtype",)),
    STALE,
)
SIDS = (
    Column("SIDs", ("name",)),
    Column("data set", ("dataset",)),
    Column("levels m", ("levels",)),
    Column("codes V", ("codebook",)),
    Column("digits H", ("digits",)),
    Column(
        "collisions",
        ("collisions", "items"),
        lambda part, whole: f"{part:,} ({part / whole:.1%})" if part is not None and whole else None,
    ),
    STALE,
)
RUNS = (
    Column("run", ("name",)),
    Column("model", ("model",)),
    Column("preset", ("preset",)),
    Column("data set", ("dataset",)),
    Column("SIDs", ("sids",)),
    Column(
        "state",
        ("state", "final"),
        lambda state, final: f"{state}, final of {final['of']}" if final else state,
    ),
    Column("validation R@10", ("validation_recall@10",), percent),
    STALE,
)
METRICS = (
    Column("users", ("users",), count),
    Column("R@10", ("recall@10",), percent),
    Column("N@10", ("ndcg@10",), percent),
    STALE,
)
EVALUATIONS = (Column("run", ("run",)), Column("decoding", ("evaluation",)), *METRICS)
EXTERNAL = (Column("data set", ("dataset",)), Column("lists", ("evaluation",)), *METRICS)


def register(app: typer.Typer) -> None:
    app.command()(show)


def show(
    run: Annotated[
        str | None,
        typer.Argument(help="Show this run's configuration and evaluations in full.", show_default=False),
    ] = None,
    format: FormatOption = "table",
    workspace: WorkspaceOption = None,
) -> None:
    """List data sets, embeddings, SIDs and runs with their main metrics, and why they are stale."""
    source = Workspace.find(workspace)
    if run is not None:
        _show_run(source.require_run(run), format)
        return
    from pipelines.inventory import overview

    view = overview(source)
    tables.show(_tables(view), format)
    if not (view.datasets or view.runs):
        say = console.result if format == "table" else console.note
        say(
            f"The workspace {source.root} is empty. "
            "Begin with `maskgr download ml-100k` or `maskgr import NAME …`."
        )


def _tables(view: Overview) -> list[Table]:
    """Return data sets, embeddings, semantic IDs, runs and evaluations."""
    embeddings = [{**vars(e), "dataset": d.name} for d in view.datasets for e in d.embeddings]
    sids = [{**vars(s), "dataset": d.name} for d in view.datasets for s in d.sids]
    runs = [{"final": None, **r.config, **vars(r), "validation_recall@10": r.best} for r in view.runs]
    evaluations = [_metrics(e, "run", r.name) for r in view.runs for e in r.evaluations]
    external = [_metrics(e, "dataset", d.name) for d in view.datasets for e in d.external]
    return [
        Table("datasets", "Data sets", DATASETS, [vars(d) for d in view.datasets]),
        Table("embeddings", "Embeddings", EMBEDDINGS, embeddings),
        Table("sids", "Semantic IDs", SIDS, sids),
        Table("runs", "Runs", RUNS, runs),
        Table("evaluations", "Evaluations (percent)", EVALUATIONS, evaluations),
        Table("external", "External lists (percent)", EXTERNAL, external),
    ]


def _metrics(evaluation: EvaluationView, kind: str, owner: str) -> dict[str, Any]:
    """Return an evaluation with its main metrics, and the run or data set that it belongs to."""
    metrics = {f"{name}@10": evaluation.metrics.get((name, 10)) for name in ("recall", "ndcg")}
    return {**vars(evaluation), kind: owner, "evaluation": evaluation.name, **metrics}


def _show_run(run: Run, form: str) -> None:
    from maskgr_cli.metrics_table import metrics_table
    from pipelines import artifacts

    settings = [{"setting": name, "value": value} for name, value in _flat(run.read_config())]
    columns = (Column("setting", ("setting",)), Column("value", ("value",)))
    evaluations = Table("evaluations", "", (), ())
    if run.evaluations:
        metrics = [
            ({"evaluation": path.name}, artifacts.read(path / "metrics.parquet", "metrics"))
            for path in run.evaluations
        ]
        evaluations = metrics_table("evaluations", metrics, f"Evaluations of {run.name}")
    tables.show([Table("settings", f"Run {run.name}", columns, settings), evaluations], form)
    if not run.evaluations:
        say = console.result if form == "table" else console.note
        say(f"No evaluation yet. Run `maskgr eval {run.name}`.")


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield the entries of nested objects as path.to.key and value."""
    for key, entry in value.items():
        if isinstance(entry, dict):
            yield from _flat(entry, f"{prefix}{key}.")
        else:
            yield prefix + key, entry
