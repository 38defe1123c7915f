"""`maskgr show`: list the artifacts of the workspace and why they are stale, or show one run in full."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maskgr_cli import console
from maskgr_cli.metrics_table import show_metrics
from maskgr_cli.options import WorkspaceOption
from pipelines.workspace import Run, RunConfig, Workspace

if TYPE_CHECKING:
    from pipelines.inventory import DatasetView, EvaluationView, RunView


def register(app: typer.Typer) -> None:
    app.command()(show)


def show(
    run: Annotated[
        str | None,
        typer.Argument(help="Show this run's configuration and evaluations in full.", show_default=False),
    ] = None,
    workspace: WorkspaceOption = None,
) -> None:
    """List data sets, embeddings, SIDs and runs with their main metrics, and why they are stale."""
    source = Workspace.find(workspace)
    if run is not None:
        _show_run(source.require_run(run))
        return
    from pipelines.inventory import overview

    view = overview(source)
    if not (view.datasets or view.runs):
        console.result(
            f"The workspace {source.root} is empty. "
            "Begin with `maskgr download ml-100k` or `maskgr import NAME …`."
        )
        return
    _show_datasets(view.datasets)
    _show_runs(view.runs)


def _show_datasets(datasets: list[DatasetView]) -> None:
    _table(
        "Data sets",
        ["data set", "users", "items", "interactions"],
        [
            (
                d.name + " (current)" * d.current,
                _count(d.users),
                _count(d.items),
                _count(d.interactions),
                d.stale,
            )
            for d in datasets
        ],
    )
    _table(
        "Embeddings",
        ["embeddings", "data set", "items", "width", "type"],
        [
            (e.name, d.name, _count(e.items), e.width, e.dtype, e.stale)
            for d in datasets
            for e in d.embeddings
        ],
    )
    _table(
        "Semantic IDs",
        ["SIDs", "data set", "levels m", "codes V", "digits H", "collisions"],
        [
            (
                s.name,
                d.name,
                s.digits and s.digits - 1,
                s.codebook,
                s.digits,
                _share(s.collisions, s.items),
                s.stale,
            )
            for d in datasets
            for s in d.sids
        ],
    )
    _table(
        "External lists (percent)",
        ["data set", "lists", "users", "R@10", "N@10"],
        [(d.name, *_metrics(e)) for d in datasets for e in d.external],
    )


def _show_runs(runs: list[RunView]) -> None:
    _table(
        "Runs",
        ["run", "model", "preset", "data set", "SIDs", "state", "validation R@10"],
        [
            (
                r.name,
                *(r.config.get(key) for key in ("model", "preset", "dataset", "sids")),
                _state(r.config),
                _percent(r.best),
                r.stale,
            )
            for r in runs
        ],
    )
    _table(
        "Evaluations (percent)",
        ["run", "decoding", "users", "R@10", "N@10"],
        [(r.name, *_metrics(e)) for r in runs for e in r.evaluations],
    )


def _metrics(evaluation: EvaluationView) -> tuple[object, ...]:
    """Return the name of an evaluation, its users and main metrics, and why it is stale."""
    recall, ndcg = (evaluation.metrics.get((metric, 10)) for metric in ("recall", "ndcg"))
    return (
        evaluation.name,
        _count(evaluation.users),
        _percent(recall),
        _percent(ndcg),
        evaluation.stale,
    )


def _state(config: RunConfig) -> str | None:
    """Return the state of a run: "finished", or of a final run "finished, final of RUN"."""
    state, final = config.get("state"), config.get("final")
    return f"{state}, final of {final['of']}" if final else state


def _show_run(run: Run) -> None:
    from pipelines import artifacts

    console.table(f"Run {run.name}", ["setting", "value"], list(_flat(run.read_config())))
    evaluations = [
        (folder.name, artifacts.read(folder / "metrics.parquet", "metrics")) for folder in run.evaluations
    ]
    if evaluations:
        show_metrics(evaluations, f"Evaluations of {run.name}")
    else:
        console.result(f"No evaluation yet. Run `maskgr eval {run.name}`.")


def _table(title: str, columns: list[str], rows: list[tuple[object, ...]]) -> None:
    """Print rows whose last entry is the reason why they are stale.

    The column of reasons is omitted if no row is stale.
    """
    stale = any(row[-1] for row in rows)
    if rows:
        console.table(title, columns + ["stale"] * stale, rows if stale else [row[:-1] for row in rows])


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield the entries of nested objects as path.to.key and value."""
    for key, entry in value.items():
        if isinstance(entry, dict):
            yield from _flat(entry, f"{prefix}{key}.")
        else:
            yield prefix + key, entry


def _count(number: int | None) -> str | None:
    return None if number is None else f"{number:,}"


def _share(part: int | None, whole: int | None) -> str | None:
    return f"{part:,} ({part / whole:.1%})" if part is not None and whole else None


def _percent(fraction: float | None) -> str | None:
    return None if fraction is None else f"{100 * fraction:.2f}"
