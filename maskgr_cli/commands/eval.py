"""`maskgr eval`: recommendations for every user, measured, and how runs differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from maskgr_cli import console, launch
from maskgr_cli.allocator import keep_freed_memory
from maskgr_cli.options import (
    ForceOption,
    GpusOption,
    ProcessesOption,
    WorkspaceOption,
    checked,
    config_options,
)
from pipelines.decode.config import Decoding
from pipelines.errors import UserError
from pipelines.models.config import PRECISIONS
from pipelines.options import check_choice, check_number
from pipelines.train.config import HORIZON, TOKENS
from pipelines.workspace import Run, Workspace

if TYPE_CHECKING:
    from pipelines.evaluate.run import Evaluation

SplitOption = Annotated[
    str,
    checked(
        "--split",
        "Users' last items (test) or second-to-last ones (validation).",
        check_choice,
        ("test", "validation"),
    ),
]


def register(app: typer.Typer) -> None:
    app.command("eval")(evaluate)


@config_options(Decoding)
def evaluate(
    settings: dict[str, Any],
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN",
            help="Training runs; two or more are compared with the first.",
            show_default="the newest",
        ),
    ] = None,
    split: SplitOption = "test",
    horizon: Annotated[
        int | None,
        checked(
            "--horizon",
            "Items ahead to recommend together.",
            check_number,
            *HORIZON,
            show_default="what the run was trained for",
        ),
    ] = None,
    tokens: Annotated[
        int | None,
        checked(
            "--tokens",
            "Most tokens in one forward pass; bounds the memory, changes no result.",
            check_number,
            *TOKENS,
            show_default="8,192 on a CPU, 65,536 on a GPU",
        ),
    ] = None,
    precision: Annotated[
        str,
        checked(
            "--precision",
            "Matrix products in fp32, bf16, or auto: bf16 where the hardware has it.",
            check_choice,
            PRECISIONS,
        ),
    ] = "auto",
    diagnose: Annotated[
        bool,
        typer.Option("--diagnose", help="Measure how digits depend on each other instead of recommending."),
    ] = False,
    gpus: GpusOption = None,
    processes: ProcessesOption = None,
    force: ForceOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Decode the next item of every user by beam search, print Recall and NDCG, and compare runs."""
    decoding = Decoding(**settings)
    place = Workspace.find(workspace)
    runs = _runs(place, names or [])
    if launch.relaunch(gpus, processes):
        return
    keep_freed_memory()
    if diagnose:
        if horizon is not None:
            raise UserError(
                "--horizon means nothing to --diagnose, which looks one item ahead. Leave it out."
            )
        for run in runs:
            _diagnose(place, run, decoding, split=split, tokens=tokens, precision=precision, force=force)
        return
    from pipelines.evaluate.compare import refuse_unlike_runs
    from pipelines.evaluate.run import evaluate_run

    refuse_unlike_runs(runs, horizon)
    progress, found = launch.progress(), {}
    for run in runs:
        if len(runs) > 1:
            progress.say(f"Run: {run.name}")
        found[run.name] = evaluate_run(
            place,
            run,
            decoding,
            progress,
            split=split,
            horizon=horizon,
            tokens=tokens,
            precision=precision,
            force=force,
            among=len(runs) > 1,
        )
    if launch.is_first():
        _show(place, split, found)


def _runs(place: Workspace, names: list[str]) -> list[Run]:
    """The named runs, else the newest one."""
    if len({*names}) < len(names):
        raise UserError(f"Each run can be named once, not as in: {' '.join(names)}")
    runs = [place.require_run(name) for name in names or [None]]
    if not names and not launch.is_worker():
        console.note(f"Run: {runs[0].name} (the newest; name another to take it).")
    return runs


def _show(place: Workspace, split: str, found: dict[str, Evaluation]) -> None:
    """Print what was found of each run and, of several, how they differ from the first."""
    from maskgr_cli.comparison_table import show_comparison
    from maskgr_cli.metrics_table import show_metrics
    from pipelines.evaluate.compare import compare_runs

    compared = (
        compare_runs(place, [(name, evaluation.folder) for name, evaluation in found.items()])
        if len(found) > 1
        else None
    )
    first = next(iter(found.values()))
    rows = [
        *((name, evaluation.metrics) for name, evaluation in found.items()),
        ("popularity", first.popularity),
    ]
    show_metrics(
        rows,
        f"{split.capitalize()} · {_described(found)}",
        "popularity: most frequent training items, same candidates",
    )
    for evaluation in found.values():
        console.note(f"Ranks, recommendations and metrics: {evaluation.folder}")
    if compared:
        folder, table = compared
        show_comparison(table)
        console.note(f"Comparison: {folder}")


def _described(found: dict[str, Evaluation]) -> str:
    """What was decoded and how, once where it is the same for all runs, else a line for each."""
    lines = {name: evaluation.description for name, evaluation in found.items()}
    return (
        lines.popitem()[1]
        if len({*lines.values()}) == 1
        else "\n".join(f"{name}: {line}" for name, line in lines.items())
    )


def _diagnose(place: Workspace, run: Run, decoding: Decoding, *, split: str, **options: Any) -> None:
    from pipelines.evaluate.diagnose import diagnose_run

    found = diagnose_run(place, run, decoding, launch.progress(), split=split, **options)
    if launch.is_first():
        from maskgr_cli.diagnosis_table import show_diagnosis

        show_diagnosis(found.table, f"{split.capitalize()} · {run.name} · {found.description}")
        console.note(f"Diagnosis: {found.folder / 'diagnosis.parquet'}")
