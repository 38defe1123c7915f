"""`maskgr show`: list the artifacts of the workspace and why they are stale, or show one run in full."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maskgr_cli import console, tables
from maskgr_cli.options import DatasetOption, WorkspaceOption, checked
from maskgr_cli.tables import Column, FormatOption, Table, count, percent
from pipelines.durable import atomic
from pipelines.errors import UserError
from pipelines.options import check_path, has_no_effect
from pipelines.workspace import Dataset, Run, Workspace

if TYPE_CHECKING:
    from pipelines.inventory import EvaluationView, Overview

STALE = Column("stale", ("stale",), optional=True)
DATASETS = (
    Column("data set", ("name", "current"), lambda name, current: name + " (current)" * current),
    *(Column(key, (key,), count) for key in ("users", "items", "interactions")),
    Column("split", ("split",), left=True),
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
TARGETS = (
    Column("soft targets", ("name",)),
    Column("data set", ("dataset",)),
    Column("teachers", ("teachers",), ", ".join),
    *(Column(key, (key,), count) for key in ("places", "items")),
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
        typer.Argument(
            help="Show this run's settings, curves and metrics in full; with --sids: name of SIDs.",
            show_default=False,
        ),
    ] = None,
    sids: Annotated[
        bool,
        typer.Option(
            "--sids", help="Show what the codes of SIDs mean, of the newest ones if none are named."
        ),
    ] = False,
    dataset: DatasetOption = None,
    format: FormatOption = "table",
    output: Annotated[
        Path | None,
        checked(
            "--output",
            "Write the curves of RUN (.png) or a tree map of SIDs (.html) to this file.",
            check_path,
        ),
    ] = None,
    workspace: WorkspaceOption = None,
) -> None:
    """List data sets, embeddings, SIDs and runs with their main metrics, and why they are stale."""
    if output is not None:
        _check_output(output, run, sids)
    if dataset is not None and not sids:
        raise has_no_effect([f"--dataset {dataset}"], "show without --sids")
    source = Workspace.find(workspace)
    if sids:
        _show_sids(source.require_dataset(dataset), run, format, output)
        return
    if run is not None:
        _show_run(source, source.require_run(run), format, output)
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


def _check_output(output: Path, run: str | None, sids: bool) -> None:
    """Check that there is something to write, and that the suffix of the file fits it.

    Raises:
        UserError: there is nothing, or the suffix is another one.
    """
    if run is None and not sids:
        raise UserError(f"--output {output}: name the run whose curves it is to hold, as in: maskgr show RUN")
    what, suffix = (
        ("a tree map is written as HTML", ".html") if sids else ("curves are written as PNG", ".png")
    )
    if output.suffix.lower() != suffix:
        raise UserError(f"--output {output}: {what}. Name a file that ends in {suffix}.")


def _tables(view: Overview) -> list[Table]:
    """Return data sets, embeddings, semantic IDs, runs and evaluations."""
    embeddings = [{**vars(e), "dataset": d.name} for d in view.datasets for e in d.embeddings]
    sids = [{**vars(s), "dataset": d.name} for d in view.datasets for s in d.sids]
    targets = [{**vars(t), "dataset": d.name} for d in view.datasets for t in d.targets]
    runs = [{"final": None, **r.config, **vars(r), "validation_recall@10": r.best} for r in view.runs]
    evaluations = [_metrics(e, "run", r.name) for r in view.runs for e in r.evaluations]
    external = [_metrics(e, "dataset", d.name) for d in view.datasets for e in d.external]
    return [
        Table("datasets", "Data sets", DATASETS, [vars(d) for d in view.datasets]),
        Table("embeddings", "Embeddings", EMBEDDINGS, embeddings),
        Table("sids", "Semantic IDs", SIDS, sids),
        Table("targets", "Soft targets", TARGETS, targets),
        Table("runs", "Runs", RUNS, runs),
        Table("evaluations", "Evaluations (percent)", EVALUATIONS, evaluations),
        Table("external", "External lists (percent)", EXTERNAL, external),
    ]


def _metrics(evaluation: EvaluationView, kind: str, owner: str) -> dict[str, Any]:
    """Return an evaluation with its main metrics, and the run or data set that it belongs to."""
    metrics = {f"{name}@10": evaluation.metrics.get((name, 10)) for name in ("recall", "ndcg")}
    return {**vars(evaluation), kind: owner, "evaluation": evaluation.name, **metrics}


def _show_run(workspace: Workspace, run: Run, form: str, output: Path | None) -> None:
    """Print a run in full, or write its curves to a file.

    Raises:
        UserError: the run has recorded no curves to draw, or a file is damaged.
    """
    from maskgr_cli.run_tables import run_tables
    from pipelines.inventory import stale_evaluations
    from pipelines.views.run import curves

    config, found = run.read_config(), curves(run)
    if output is not None:
        if not found:
            raise UserError(f"{run.name} has recorded no curves yet. Train it first: maskgr train")
        from pipelines.views.curve_plot import draw_curves

        _write(output, draw_curves(found, f"{run.name}: {config.get('model')} on {config.get('dataset')}"))
        return
    tables.show(run_tables(run, config, found, form == "table"), form)
    for name, reason in stale_evaluations(workspace, run).items():
        console.note(f"The evaluation {name} is stale: {reason}.")
    if not run.evaluations:
        say = console.result if form == "table" else console.note
        say(f"No evaluation yet. Run `maskgr eval {run.name}`.")


def _show_sids(dataset: Dataset, name: str | None, form: str, output: Path | None) -> None:
    """Print what the codes of semantic IDs mean, or write their tree map to a file."""
    from maskgr_cli.sids_tables import sids_tables
    from pipelines.views.codes import Meaning

    meaning = Meaning(dataset, name)
    if output is None:
        tables.show(sids_tables(meaning, form in ("table", "latex")), form)
        return
    from pipelines.views.tree_map import tree_map_page

    _write(output, tree_map_page(meaning).encode("utf-8"))


def _write(output: Path, content: bytes) -> None:
    with atomic(output) as temporary:
        temporary.write_bytes(content)
    console.note(f"Written: {output}")
