"""`maskgr eval`: recommendations for every user, their metrics, and comparisons of runs."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maskgr_cli import console, external_lists, launch
from maskgr_cli.allocator import keep_freed_memory
from maskgr_cli.options import ForceOption, GpusOption, ProcessesOption, WorkspaceOption, config_options
from maskgr_cli.tables import FormatOption, Table, show
from pipelines.decode.config import Decoding
from pipelines.errors import UserError
from pipelines.evaluate.config import EvalConfig
from pipelines.external.config import ExternalConfig
from pipelines.options import has_no_effect
from pipelines.workspace import Run, Workspace

if TYPE_CHECKING:
    from pipelines.evaluate.run import Evaluation


def register(app: typer.Typer) -> None:
    app.command("eval")(evaluate)


@config_options(Decoding, EvalConfig, ExternalConfig)
def evaluate(
    settings: dict[str, Any],
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN", help="Runs; two or more are compared with the first.", show_default="the newest"
        ),
    ] = None,
    diagnose: Annotated[
        bool,
        typer.Option("--diagnose", help="Measure how digits depend on each other instead of recommending."),
    ] = False,
    format: FormatOption = "table",
    gpus: GpusOption = None,
    processes: ProcessesOption = None,
    force: ForceOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Decode the next item of every user, print Recall and NDCG, and compare runs.

    --recommendations measures the lists of another program in the same way.
    """
    config, external = _configs(settings)
    store = launch.find_workspace(workspace)
    if external.recommendations and not names:
        given = {"--diagnose": diagnose, "--gpus": gpus, "--processes": processes, "--force": force}
        external_lists.refuse_options_of_runs(config, given)
        runs = []
    else:
        runs = _runs(store, names or [])
    if external.recommendations and diagnose:
        raise has_no_effect(["--recommendations"], "--diagnose", "which looks into a model")
    if config.by and diagnose:
        raise has_no_effect([f"--by {config.by}"], "--diagnose", "which ranks no targets")
    if launch.relaunch(gpus, processes):
        return
    keep_freed_memory()
    if diagnose:
        tables = [table for run in runs for table in _diagnose(store, run, config, force)]
        if launch.is_first():
            show(tables, format)
        return
    from pipelines.evaluate.compare import check_comparable_runs
    from pipelines.evaluate.run import evaluate_run

    check_comparable_runs(runs, config.horizon)
    progress = launch.progress()
    lists = None
    if external.recommendations:
        dataset = external_lists.dataset_of(external, store, runs)
        config, lists = external_lists.read(external, dataset, config, progress)
    evaluations: dict[str, Evaluation] = {}
    for run in runs:
        if len(runs) > 1:
            progress.say(f"Run: {run.name}")
        evaluations[run.name] = evaluate_run(store, run, config, progress, force=force, among=len(runs) > 1)
    if not launch.is_first():
        return
    if lists:
        from pipelines.evaluate.external import evaluate_lists

        evaluations[external.result] = evaluate_lists(dataset, external.result, lists, config, progress)
    _report(store, config.split, config.by, evaluations, format)


def _configs(settings: dict[str, Any]) -> tuple[EvalConfig, ExternalConfig]:
    """Return the configurations of an evaluation and of external lists from the options given."""
    decoding, evaluation, external = (
        {field.name: settings[field.name] for field in dataclasses.fields(config) if field.name in settings}
        for config in (Decoding, EvalConfig, ExternalConfig)
    )
    return EvalConfig(Decoding(**decoding), **evaluation), ExternalConfig(**external)


def _runs(store: Workspace, names: list[str]) -> list[Run]:
    """Return the named runs, or the newest one that is no final run if none is named."""
    if len({*names}) < len(names):
        raise UserError(f"Each run can be named once, not as in: {' '.join(names)}")
    if names:
        return [store.require_run(name) for name in names]
    measurable = [run for run in store.runs if not run.is_final]
    run = measurable[-1] if measurable else store.require_run(None)
    if not launch.is_worker():
        console.note(f"Run: {run.name} (the newest; name another to take it).")
    return [run]


def _report(
    store: Workspace, split: str, by: str | None, evaluations: dict[str, Evaluation], form: str
) -> None:
    """Print the metrics of each run and, of several runs, how they differ from the first."""
    from maskgr_cli.beside_tables import beside_tables
    from maskgr_cli.comparison_table import comparison_table
    from maskgr_cli.metrics_table import by_warmth, metrics_table
    from pipelines.evaluate.compare import compare_runs

    folders = [(name, evaluation.folder) for name, evaluation in evaluations.items()]
    compared = compare_runs(store, folders) if len(folders) > 1 else None
    systems = [
        (_facts(name, split, evaluation), evaluation.metrics) for name, evaluation in evaluations.items()
    ]
    popularity = next(iter(evaluations.values())).popularity
    metrics = metrics_table(
        "metrics",
        [*systems, ({"run": "popularity", "split": split}, popularity)],
        f"{split.capitalize()} · {_description(evaluations)}",
        "popularity: most frequent training items, same candidates",
    )
    apart = by_warmth([*systems, ({"run": "popularity", "split": split}, popularity)])
    targets, differences = Table("targets", "", (), ()), Table("differences", "", (), ())
    if apart:
        note = "cold: items without a training interaction"
        targets = metrics_table("targets", apart, "Cold and warm targets", note)
    if compared:
        differences = comparison_table(compared[1])
    beside = [(facts, evaluations[facts["run"]].beside()) for facts, _ in systems]
    show([metrics, *beside_tables(beside, by), targets, differences], form)
    for _, folder in folders:
        console.note(f"Ranks, recommendations and metrics: {folder}")
    if compared:
        console.note(f"Comparison: {compared[0]}")


def _facts(run: str, split: str, evaluation: Evaluation) -> dict[str, str]:
    return {
        "run": run,
        "split": split,
        "evaluation": evaluation.folder.name,
        "description": evaluation.description,
        "folder": str(evaluation.folder),
    }


def _description(evaluations: dict[str, Evaluation]) -> str:
    """Return the description of the evaluations: one line if it is the same for all runs, else a line for
    each.
    """
    lines = {name: evaluation.description for name, evaluation in evaluations.items()}
    if len({*lines.values()}) == 1:
        return next(iter(lines.values()))
    return "\n".join(f"{name}: {line}" for name, line in lines.items())


def _diagnose(store: Workspace, run: Run, config: EvalConfig, force: bool) -> list[Table]:
    """Diagnose a run and return the tables."""
    from maskgr_cli.diagnosis_table import diagnosis_tables
    from pipelines.evaluate.diagnose import diagnose_run

    diagnosis = diagnose_run(store, run, config, launch.progress(), force=force)
    if launch.is_first():
        console.note(f"Diagnosis: {diagnosis.folder / 'diagnosis.parquet'}")
    title = f"{config.split.capitalize()} · {run.name} · {diagnosis.description}"
    return diagnosis_tables(run.name, diagnosis.table, title)
