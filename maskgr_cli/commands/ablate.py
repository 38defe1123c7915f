"""`maskgr ablate`: a table or figure of the paper, or a grid of one's own, and its report; `maskgr report`: all of them in one page."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maskgr_cli import console, launch
from maskgr_cli.allocator import keep_freed_memory
from maskgr_cli.commands.eval import SplitOption
from maskgr_cli.commands.train import EmbeddingOption
from maskgr_cli.options import WorkspaceOption, check_name, checked, swept_options
from pipelines.ablate.grid import GridSettings, cells
from pipelines.ablate.options import KINDS, parsed
from pipelines.ablate.recipe import BUDGETS, Recipe, System, load, names
from pipelines.errors import UserError
from pipelines.models.registry import MODELS
from pipelines.options import check_choice, check_number
from pipelines.workspace import Workspace

if TYPE_CHECKING:
    from pipelines.ablate.planning import PlannedRun
    from pipelines.ablate.report import Section

OWN = "ablation"  # a grid without a recipe
METRICS = "R@5,R@10,N@5,N@10"
SHOWN_OPTIONS = 2  # of a cell's own, in messages


def register(app: typer.Typer) -> None:
    app.command()(ablate)
    app.command()(report)


@swept_options(KINDS)
def ablate(
    settings: dict[str, str],
    recipe: Annotated[
        str | None,
        typer.Argument(help=f"{', '.join(names())}, or a TOML file.", show_default="a grid of the options"),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Data sets.", show_default="the recipe's, or the one last downloaded")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help=f"Models of a grid without recipe: {', '.join(MODELS)}.", show_default="maskgr"),
    ] = None,
    metrics: Annotated[
        str | None, typer.Option(help="Metrics of a grid without recipe.", show_default=METRICS)
    ] = None,
    budget: Annotated[
        str, checked("--budget", f"Preset of every run: {', '.join(BUDGETS)}.", check_choice, BUDGETS)
    ] = "small",
    minutes_per_run: Annotated[
        float | None,
        checked(
            "--minutes-per-run",
            "Bound on each run's training, beside its steps.",
            check_number,
            1e-9,
            1_000_000,
            show_default="none",
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        checked(
            "--seeds", "Seeds of every run.", check_number, 1, 1000, show_default="1, or what the recipe says"
        ),
    ] = None,
    split: SplitOption = "test",
    embedding: EmbeddingOption = None,
    jobs: Annotated[
        int,
        checked(
            "--jobs",
            "Runs at the same time, a process each, on a core or GPU of its own.",
            check_number,
            1,
            256,
        ),
    ] = 1,
    name: Annotated[
        str | None,
        checked("--name", "Name of the report of a grid without recipe.", check_name, show_default=OWN),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the cells and what is left to do; do nothing.")
    ] = False,
    job: Annotated[Path | None, typer.Option(hidden=True)] = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Train and evaluate every combination of options, and report. Options take lists: --sids 3,4,5 --nfe 1..5 --unmask greedy,random.

    Options of training multiply runs, those of evaluation the evaluations of a run. What is done is not done again; what was
    interrupted goes on. A recipe is a table or figure of the paper, with its figures beside ours.
    """
    place_ = Workspace.find(workspace)
    if job:
        _work(place_, job)
        return
    launch.require_cores("--jobs", jobs)
    plan = _recipe(place_, recipe, dataset, model, metrics, name)
    options = {option: parsed(option, text) for option, text in settings.items()}
    scale = GridSettings(budget, minutes_per_run, seeds, tuple(_list(dataset)), options, split)
    every = cells(plan, scale)
    keep_freed_memory()
    from pipelines.ablate.engine import jobs_of, run_all
    from pipelines.ablate.planning import Inputs, plan_runs
    from pipelines.ablate.report import write_report
    from pipelines.ablate.results import collect

    progress = console.RichProgress()
    planned = plan_runs(every, Inputs(place_, embedding, not dry_run, progress), budget, split)
    if dry_run:
        _list_cells(place_, plan, planned, jobs)
        return
    left = jobs_of(place_, planned, split)
    console.note(
        f"{plan.title}: {len(planned)} cells, {len(left)} run{'s' * (len(left) != 1)} to train or evaluate, budget {budget}."
    )
    command = [sys.executable, "-m", "maskgr_cli", "ablate", "--workspace", str(place_.root), "--job"]
    try:
        run_all(place_, left, progress, count=jobs, command=command)
    except KeyboardInterrupt:
        console.note("Interrupted; the same command goes on where it stopped.")
        raise
    folder, section = write_report(
        place_, plan, scale, collect(place_, plan, planned, budget), shlex.join(["maskgr", *sys.argv[1:]])
    )
    _show(section, folder)


def report(workspace: WorkspaceOption = None) -> None:
    """Join the reports of all grids of the workspace into one page."""
    from pipelines.ablate.report import write_index

    path, there, missing = write_index(Workspace.find(workspace))
    console.note(
        f"{len(there)} reports: {', '.join(there) or 'none'}. Missing recipes: {', '.join(missing) or 'none'}."
    )
    console.note(f"Page: {path}")


def _recipe(
    place: Workspace,
    recipe: str | None,
    dataset: str | None,
    model: str | None,
    metrics: str | None,
    name: str | None,
) -> Recipe:
    """The recipe that is named, or one made of the options.

    Raises:
        UserError: options of the other kind were given too, or something is named that does not exist.
    """
    if recipe:
        typed = [
            option
            for option, value in (("--model", model), ("--metrics", metrics), ("--name", name))
            if value
        ]
        if typed:
            raise UserError(
                f"{' and '.join(typed)} mean nothing to a recipe, which says so itself. Leave out."
            )
        return load(recipe)
    datasets = _list(dataset) or [place.require_dataset().name]
    systems = [System(each, each) for each in _list(model) or ["maskgr"]]
    for system in systems:
        if system.model not in MODELS:
            raise UserError(f"--model {system.model!r} is unknown; choose {', '.join(MODELS)}.")
    from pipelines.ablate.metrics import metric

    labels = _list(metrics) or METRICS.split(",")
    try:
        for label in labels:
            metric(label)
    except UserError as error:
        raise UserError(f"--metrics: {error}.") from None
    return Recipe(name or OWN, name or "Ablation", datasets, labels, systems)


def _list(text: str | None) -> list[str]:
    return [part.strip() for part in text.split(",")] if text else []


def _work(place: Workspace, path: Path) -> None:
    """One job, for a grid that works in several processes; ends, and saves, when standard input does."""
    from pipelines.ablate.engine import Job, work

    def watch() -> None:
        sys.stdin.read()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
    keep_freed_memory()
    work(place, Job.read(path), launch.progress())


def _list_cells(place: Workspace, recipe: Recipe, planned: list[PlannedRun], jobs: int) -> None:
    """Print what a grid would do."""
    from pipelines.ablate.engine import DONE, FAILED, expected_minutes, run_result

    rows, minutes, unknown, seen, runs = [], 0.0, 0, set(), place.runs
    for cell in planned:
        found, length = run_result(place, cell), ""
        run = cell.run or str(cell.plan)
        if cell.plan and found["state"] not in (DONE, FAILED):
            expected = expected_minutes(runs, cell.plan)
            length = "same run" if run in seen else "unknown" if expected is None else f"{expected:,.1f}"
            if run not in seen:
                minutes, unknown = minutes + (expected or 0.0), unknown + (expected is None)
            seen.add(run)
        rows.append(
            (
                cell.cell.label,
                cell.cell.dataset,
                cell.cell.seed,
                length,
                found["state"],
                found.get("reason") or "",
            )
        )
    total = f"{minutes / min(jobs, max(1, len(rows))):,.0f} min of training" + (
        f" and {unknown} runs of unknown length" if unknown else ""
    )
    console.table(
        recipe.title,
        ["cell", "data set", "seed", "minutes", "state", "why not"],
        rows,
        f"{len(rows)} cells · {total} left, and evaluations",
    )


def _show(section: Section, folder: Path) -> None:
    """Print a report."""
    from pipelines.ablate.report import CONTEST_HEADER, LEGEND, TESTED, paired_test_cells

    for table in section.tables:
        if table.measured:
            head = " · ".join(
                part for part in (section.recipe.title, table.title, f"budget {section.budget}") if part
            )
            console.table(
                head, table.header, [["\n".join(cell) for cell in row] for row in table.rows], LEGEND
            )
    if section.paired_tests:
        console.table(
            "Best against runner-up",
            CONTEST_HEADER,
            [paired_test_cells(paired_test) for paired_test in section.paired_tests],
            TESTED,
        )
    reasons = {}
    for cell, reason in section.problems.items():
        reasons.setdefault(reason, []).append(cell)
    for reason, those in reasons.items():
        more = f" and {len(those) - SHOWN_OPTIONS} more" if len(those) > SHOWN_OPTIONS else ""
        console.note(f"Without figures: {'; '.join(those[:SHOWN_OPTIONS])}{more}: {reason}")
    console.note(f"Report: {folder / 'report.html'} (and table.md, plot.png, results.parquet beside it)")
