"""`maskgr eval`: recommendations for every user, measured."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from maskgr_cli import console, launch
from maskgr_cli.allocator import keep_freed_memory
from maskgr_cli.options import ForceOption, GpusOption, ProcessesOption, RunOption, WorkspaceOption, config_options
from pipelines.decode.config import Decoding
from pipelines.errors import UserError
from pipelines.workspace import Run, Workspace


def register(app: typer.Typer) -> None:
    app.command("eval")(evaluate)


@config_options(Decoding)
def evaluate(
    settings: dict[str, Any],
    run: RunOption = None,
    split: Annotated[str, typer.Option(help="Users' last items (test) or second-to-last ones (validation).")] = "test",
    ahead: Annotated[
        int | None, typer.Option("--next", min=1, help="Items ahead to recommend together.", show_default="what the run was trained for")
    ] = None,
    tokens: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Most tokens in one forward pass; bounds the memory, changes no result.",
            show_default="8,192 on a CPU, 65,536 on a GPU",
        ),
    ] = None,
    precision: Annotated[str, typer.Option(help="Matrix products in fp32, bf16, or auto: bf16 where the hardware has it.")] = "auto",
    diagnose: Annotated[bool, typer.Option("--diagnose", help="Measure how digits depend on each other instead of recommending.")] = False,
    gpus: GpusOption = None,
    processes: ProcessesOption = None,
    force: ForceOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Decode the next item of every user by beam search and print Recall and NDCG."""
    decoding = Decoding(**settings)
    place = Workspace.find(workspace)
    chosen = place.require_run(run)
    if run is None and not launch.is_worker():
        console.note(f"Run: {chosen.name} (the newest; --run takes another).")
    if launch.relaunch(gpus, processes):
        return
    keep_freed_memory()
    if diagnose:
        if ahead is not None:
            raise UserError("--next means nothing to --diagnose, which looks one item ahead. Leave it out.")
        _diagnose(place, chosen, decoding, split=split, tokens=tokens, precision=precision, force=force)
        return
    from pipelines.evaluate.run import evaluate_run

    found = evaluate_run(
        place, chosen, decoding, launch.progress(), split=split, ahead=ahead, tokens=tokens, precision=precision, force=force
    )
    if launch.is_first():
        from maskgr_cli.metrics_table import show_metrics

        rows = [(chosen.name, found.metrics), ("popularity", found.popularity)]
        show_metrics(rows, f"{split.capitalize()} · {found.description}", "popularity: most frequent training items, same candidates")
        console.note(f"Ranks, recommendations and metrics: {found.folder}")


def _diagnose(place: Workspace, run: Run, decoding: Decoding, *, split: str, **options: Any) -> None:
    from pipelines.evaluate.diagnose import diagnose_run

    found = diagnose_run(place, run, decoding, launch.progress(), split=split, **options)
    if launch.is_first():
        from maskgr_cli.diagnosis_table import show_diagnosis

        show_diagnosis(found.table, f"{split.capitalize()} · {run.name} · {found.description}")
        console.note(f"Diagnosis: {found.folder / 'diagnosis.parquet'}")
