"""Commands `maskgr ablate` (a recipe or a grid of options) and `maskgr report` (one page of all reports)."""

from __future__ import annotations

import functools
import inspect
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maskgr_cli import console, launch
from maskgr_cli.allocator import keep_freed_memory
from maskgr_cli.commands.train import EmbeddingOption
from maskgr_cli.options import WorkspaceOption, check_name, checked, swept_options
from pipelines.ablate.grid import Cell, GridSettings, cells
from pipelines.ablate.launchers import LAUNCHERS, LocalLauncher, launcher_of
from pipelines.ablate.metrics import find_metric
from pipelines.ablate.options import STAGE_OPTIONS, parse_values
from pipelines.ablate.recipe import BUDGETS, Recipe, System
from pipelines.ablate.recipe_file import load, names
from pipelines.errors import UserError
from pipelines.evaluate.config import SPLITS
from pipelines.models.registry import MODELS
from pipelines.options import check_choice, check_number, has_no_effect
from pipelines.workspace import Workspace

if TYPE_CHECKING:
    from pipelines.ablate.planning import PlannedRun
    from pipelines.ablate.section import Section

OWN_GRID = "ablation"  # name of the report of a grid without a recipe
METRICS = "R@5,R@10,N@5,N@10"
CELLS_IN_MESSAGE = 2  # cells that a message names; it counts the others

RecipeArgument = Annotated[
    str | None,
    typer.Argument(help=f"{', '.join(names())}, or a TOML file.", show_default="a grid of the options"),
]
DatasetsOption = Annotated[
    str | None, typer.Option(help="Data sets.", show_default="the recipe's, or the one last downloaded")
]
ModelsOption = Annotated[
    str | None,
    typer.Option(help=f"Models of a grid without a recipe: {', '.join(MODELS)}.", show_default="maskgr"),
]
MetricsOption = Annotated[
    str | None, typer.Option(help="Metrics of a grid without a recipe.", show_default=METRICS)
]
BudgetOption = Annotated[
    str, checked("--budget", f"Preset of every run: {', '.join(BUDGETS)}.", check_choice, BUDGETS)
]
MinutesOption = Annotated[
    float | None,
    checked(
        "--minutes-per-run",
        "Bound on the minutes of each training, in addition to its steps.",
        check_number,
        1e-9,
        1_000_000,
        show_default="none",
    ),
]
SeedsOption = Annotated[
    int | None,
    checked(
        "--seeds", "Number of seeds of every run.", check_number, 1, 1000, show_default="1, or the recipe's"
    ),
]
SplitOption = Annotated[
    str,
    checked("--split", "Split: the targets of the test or of the validation.", check_choice, SPLITS),
]
JobsOption = Annotated[
    int | None,
    checked(
        "--jobs",
        "Number of runs at the same time, each in a process on a core or GPU of its own.",
        check_number,
        1,
        256,
        show_default="1; with a scheduler, as many as it starts",
    ),
]
LauncherOption = Annotated[
    str,
    checked(
        "--launcher",
        "Where runs are started: local (this machine), slurm (a job array, by submitit), ray (RAY_ADDRESS).",
        check_choice,
        LAUNCHERS,
    ),
]
LauncherOptionsOption = Annotated[
    str | None,
    typer.Option(
        help="Options of the scheduler, such as timeout_min=240,gpus_per_node=1,slurm_partition=gpu for "
        "slurm (parameters of submitit) or num_cpus=4,num_gpus=1 for ray (of ray.remote).",
        show_default="none",
    ),
]
NameOption = Annotated[
    str | None,
    checked("--name", "Name of the report of a grid without a recipe.", check_name, show_default=OWN_GRID),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="List the cells and the remaining work, and do nothing.")
]


@dataclass(frozen=True)
class Request:
    """Options of `maskgr ablate`, except the options of training and evaluation that take lists.

    Attributes:
        recipe: name of a recipe or path of a TOML file; None for a grid of options.
        dataset: names of data sets, separated by commas.
        model: names of models, separated by commas.
        metrics: labels of metrics, separated by commas.
        budget: preset of every run.
        minutes_per_run: bound on the minutes of each training.
        seeds: number of seeds.
        split: "test" or "validation".
        embedding: name of the embeddings from which semantic IDs are made.
        jobs: number of runs at the same time; None for the launcher's default.
        launcher: where runs are started, see `LAUNCHERS`.
        launcher_options: options of the launcher's scheduler, key=value, separated by commas.
        name: name of the report.
        dry_run: if true, the cells are only listed.
        job: path of a job's file; if given, only this job is done.
        workspace: folder of all artifacts.
    """

    recipe: RecipeArgument = None
    dataset: DatasetsOption = None
    model: ModelsOption = None
    metrics: MetricsOption = None
    budget: BudgetOption = "small"
    minutes_per_run: MinutesOption = None
    seeds: SeedsOption = None
    split: SplitOption = "test"
    embedding: EmbeddingOption = None
    jobs: JobsOption = None
    launcher: LauncherOption = "local"
    launcher_options: LauncherOptionsOption = None
    name: NameOption = None
    dry_run: DryRunOption = False
    job: Annotated[Path | None, typer.Option(hidden=True)] = None
    workspace: WorkspaceOption = None


def register(app: typer.Typer) -> None:
    app.command()(ablate)
    app.command()(report)


def _with_request(command: Callable[[dict[str, str], Request], None]) -> Callable[..., None]:
    """Give a command one option for each attribute of `Request`."""

    @functools.wraps(command)
    def wrapper(settings: dict[str, str], **options: Any) -> None:
        command(settings, Request(**options))

    settings = inspect.Parameter("settings", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    options = inspect.signature(Request, eval_str=True).parameters.values()
    wrapper.__signature__ = inspect.Signature([settings, *options])  # type: ignore[attr-defined]  # Typer reads it
    return wrapper


@swept_options(STAGE_OPTIONS)
@_with_request
def ablate(settings: dict[str, str], request: Request) -> None:
    """Train and evaluate every combination of options, and write a report.

    Options take lists: --sids 3,4,5 --nfe 1..5 --unmask greedy,random. Options of training multiply the
    runs; options of evaluation multiply the evaluations of a run. Finished work is not done again, and
    interrupted work is continued. A recipe is a table or figure of the paper; its report shows the paper's
    figures beside the measured ones.
    """
    workspace = Workspace.find(request.workspace)
    if request.job:
        _run_job(workspace, request.job)
        return
    if request.launcher == "local":
        launch.require_cores("--jobs", request.jobs)
    recipe = _recipe(workspace, request)
    grid_settings = GridSettings(
        request.budget,
        request.minutes_per_run,
        request.seeds,
        tuple(_list(request.dataset)),
        {option: parse_values(option, text) for option, text in settings.items()},
        request.split,
    )
    grid_cells = cells(recipe, grid_settings)
    keep_freed_memory()
    _run_grid(workspace, request, recipe, grid_settings, grid_cells)


def _run_grid(
    workspace: Workspace, request: Request, recipe: Recipe, settings: GridSettings, grid_cells: list[Cell]
) -> None:
    """Do the work of a grid, and write and print its report; with --dry-run, list its cells.

    Raises:
        KeyboardInterrupt: the user pressed Ctrl-C; the state of every training is saved.
    """
    from pipelines.ablate.engine import jobs_of, run_all
    from pipelines.ablate.planning import Inputs, plan_runs
    from pipelines.ablate.report import write_report
    from pipelines.ablate.results import collect

    launcher = launcher_of(
        request.launcher,
        request.jobs,
        _launcher_options(request.launcher_options),
        workspace.run_results.absolute() / "jobs" / "submitit",
    )
    progress = console.RichProgress()
    inputs = Inputs(workspace, request.embedding, not request.dry_run, progress)
    planned_runs = plan_runs(grid_cells, inputs, settings.budget, settings.split)
    if request.dry_run:
        _list_cells(workspace, recipe, planned_runs, request.jobs or 1)
        return
    jobs = jobs_of(workspace, planned_runs, settings.split)
    console.note(
        f"{recipe.title}: {len(planned_runs)} cells, {len(jobs)} run{'s' * (len(jobs) != 1)} "
        f"to train or evaluate, budget {settings.budget}."
    )
    # Accelerate has one precision per process: runs of several precisions need processes of their own.
    in_processes = launcher != LocalLauncher() or len({job.plan.train.precision for job in jobs}) > 1
    try:
        run_all(
            workspace,
            jobs,
            progress,
            launcher=launcher if in_processes else None,
            command=launch.job_command(workspace),
        )
    except KeyboardInterrupt:
        console.note("Interrupted; the same command continues the work.")
        raise
    table = collect(workspace, recipe, planned_runs, settings.budget)
    typed = shlex.join(["maskgr", *sys.argv[1:]])
    folder, section = write_report(workspace, recipe, settings, table, typed)
    _show(section, folder)


def report(workspace: WorkspaceOption = None) -> None:
    """Join the reports of all grids of the workspace into one page."""
    from pipelines.ablate.report import write_index

    path, reports, missing = write_index(Workspace.find(workspace))
    console.note(
        f"{len(reports)} reports: {', '.join(reports) or 'none'}. "
        f"Missing recipes: {', '.join(missing) or 'none'}."
    )
    console.note(f"Page: {path}")


def _recipe(workspace: Workspace, request: Request) -> Recipe:
    """Return the recipe that the user names, or a recipe made of the options.

    Raises:
        UserError: the recipe is combined with options of a grid, or a data set, model or metric does not
            exist.
    """
    if request.recipe:
        options = {"--model": request.model, "--metrics": request.metrics, "--name": request.name}
        typed = [option for option, value in options.items() if value]
        if typed:
            raise has_no_effect(typed, "a recipe", "which sets them itself")
        return load(request.recipe)
    datasets = _list(request.dataset) or [workspace.require_dataset().name]
    systems = [System(model, model) for model in _list(request.model) or ["maskgr"]]
    for system in systems:
        if system.model not in MODELS:
            raise UserError(f"--model {system.model!r} is unknown; choose {', '.join(MODELS)}.")
    labels = _list(request.metrics) or METRICS.split(",")
    try:
        for label in labels:
            find_metric(label)
    except UserError as error:
        raise UserError(f"--metrics: {error}.") from None
    return Recipe(request.name or OWN_GRID, request.name or "Ablation", datasets, labels, systems)


def _launcher_options(text: str | None) -> dict[str, int | float | str]:
    """Return the options of a scheduler by name; numbers are numbers.

    Raises:
        UserError: an option has no value.
    """
    options: dict[str, int | float | str] = {}
    for part in _list(text):
        key, equals, value = part.partition("=")
        if not (key and equals and value):
            raise UserError(f"--launcher-options: {part!r} is not KEY=VALUE, such as timeout_min=240.")
        options[key] = value
        for kind in (float, int):
            with suppress(ValueError):
                options[key] = kind(value)
    return options


def _list(text: str | None) -> list[str]:
    return [part.strip() for part in text.split(",")] if text else []


def _run_job(workspace: Workspace, path: Path) -> None:
    """Do one job of a grid that runs in several processes.

    When standard input ends, the state of the training is saved and this process ends.
    """
    from pipelines.ablate.engine import run_job
    from pipelines.ablate.job import Job

    def watch() -> None:
        sys.stdin.read()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
    keep_freed_memory()
    run_job(workspace, Job.read(path), launch.progress())


def _list_cells(workspace: Workspace, recipe: Recipe, planned_runs: list[PlannedRun], jobs: int) -> None:
    """Print the cells of a grid with their states and the expected minutes of training."""
    from pipelines.ablate.engine import expected_minutes
    from pipelines.ablate.state import DONE, FAILED, run_result

    rows: list[tuple[object, ...]] = []
    minutes: dict[str, float | None] = {}  # run → expected minutes of its remaining training
    existing_runs = workspace.runs
    for planned in planned_runs:
        result, length = run_result(workspace, planned), ""
        run = planned.run or str(planned.plan)
        if planned.plan and result.state not in (DONE, FAILED):
            expected = expected_minutes(existing_runs, planned.plan)
            length = "same run" if run in minutes else "unknown" if expected is None else f"{expected:,.1f}"
            minutes.setdefault(run, expected)
        cell = planned.cell
        rows.append((cell.label, cell.dataset, cell.seed, length, result.state, result.reason or ""))
    unknown = sum(expected is None for expected in minutes.values())
    known = sum(expected or 0.0 for expected in minutes.values())
    total = f"{known / min(jobs, max(1, len(rows))):,.0f} min of training"
    if unknown:
        total += f" and {unknown} runs of unknown length"
    console.table(
        recipe.title,
        ["cell", "data set", "seed", "minutes", "state", "reason"],
        rows,
        f"{len(rows)} cells · {total} left, and evaluations",
    )


def _show(section: Section, folder: Path) -> None:
    """Print a report."""
    from pipelines.ablate.report import LEGEND, PAIRED_TEST_HEADER, TESTED, paired_test_cells

    for table in section.tables:
        if table.measured:
            parts = (section.recipe.title, table.title, f"budget {section.budget}")
            console.table(" · ".join(filter(None, parts)), table.header, table.rows, LEGEND)
    if section.paired_tests:
        rows = [*map(paired_test_cells, section.paired_tests)]
        console.table("Best against runner-up", PAIRED_TEST_HEADER, rows, TESTED)
    cells_by_reason: dict[str, list[str]] = {}
    for cell, reason in section.problems.items():
        cells_by_reason.setdefault(reason, []).append(cell)
    for reason, failed in cells_by_reason.items():
        rest = len(failed) - CELLS_IN_MESSAGE
        more = f" and {rest} more" if rest > 0 else ""
        console.note(f"Without figures: {'; '.join(failed[:CELLS_IN_MESSAGE])}{more}: {reason}")
    console.note(f"Report: {folder / 'report.html'} (and table.md, plot.png, results.parquet beside it)")
