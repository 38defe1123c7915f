"""`maskgr train`: a model from sequences and semantic IDs."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from maskgr_cli import console, launch
from maskgr_cli.allocator import keep_freed_memory
from maskgr_cli.options import DatasetOption, ForceOption, GpusOption, ProcessesOption, WorkspaceOption, config_options
from pipelines.errors import UserError
from pipelines.models.config import MODELS, ModelConfig
from pipelines.tokenize.config import TokenizeConfig
from pipelines.train.config import TrainConfig
from pipelines.train.configure import configure
from pipelines.train.presets import PRESET_NAMES
from pipelines.workspace import Dataset, Workspace

ModelOption = Annotated[str, typer.Option(help=f"Model: {', '.join(MODELS)}.")]
PresetOption = Annotated[str, typer.Option(help=f"Sizes and schedule to start from: {', '.join(PRESET_NAMES)}.")]
SidsOption = Annotated[int, typer.Option(help="Layers m of the semantic IDs; an item has m + 1 digits.")]
CodebookOption = Annotated[int, typer.Option(help="Codes V per digit.")]
EmbeddingOption = Annotated[str | None, typer.Option(help="Embeddings the semantic IDs are made of.", show_default="the newest")]


def register(app: typer.Typer) -> None:
    app.command()(train)


@config_options(*MODELS.values(), TrainConfig)
def train(
    context: typer.Context,
    settings: dict[str, Any],
    dataset: DatasetOption = None,
    model: ModelOption = "maskgr",
    preset: PresetOption = "small",
    sids: SidsOption = 4,
    codebook: CodebookOption = 256,
    embedding: EmbeddingOption = None,
    name: Annotated[str | None, typer.Option(help="Name of the run.", show_default="DATASET-MODEL-PRESET-DIGEST")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an interrupted run (the newest, or --name) as if it had never stopped.")
    ] = False,
    gpus: GpusOption = None,
    processes: ProcessesOption = None,
    track: Annotated[str | None, typer.Option(help="Accelerate tracker to send metrics to, e.g. tensorboard.")] = None,
    force: ForceOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Train a model; semantic IDs that are missing are made first."""
    place = Workspace.find(workspace)
    launch.require_gpus(gpus)
    if resume:
        _refuse(context, allowed={"resume", "name", "gpus", "processes", "track", "workspace"})
    else:
        sizes, schedule = configure(model, preset, settings)
        data = place.require_dataset(dataset)
        if dataset is None and not launch.is_worker():
            console.note(f"Data set: {data.name} (the last downloaded or imported; --dataset takes another).")
        made = ensure_inputs(context, data, sizes, sids, codebook, embedding)
    if launch.relaunch(gpus, processes):
        return
    keep_freed_memory()
    from pipelines.train.run import Plan, train_run, unfinished

    if resume:
        run, plan = unfinished(place, name)
        name = run.name
    else:
        plan = Plan(data.name, made, model, preset, sizes, schedule)
    run = train_run(place, plan, launch.progress(), name=name, resume=resume, force=force, track=track)
    if launch.is_first():
        console.note(f"Trained {run.name} ({run.path}). Measure it with: maskgr eval {run.name}")


def _refuse(context: typer.Context, allowed: set[str]) -> None:
    typed = [name for name in context.params if name not in allowed and context.get_parameter_source(name).name == "COMMANDLINE"]
    if typed:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in typed)
        raise UserError(f"--resume takes its settings from the run; leave out {options}.")


def ensure_inputs(context: typer.Context, data: Dataset, sizes: ModelConfig, sids: int, codebook: int, embedding: str | None) -> str | None:
    """The semantic IDs to train on, made now where they are missing; None for a model that knows items by number.

    Raises:
        UserError: options of semantic IDs were typed for such a model.
    """
    if sizes.needs:
        from pipelines.prepare import ensure_sids

        return ensure_sids(data, TokenizeConfig(layers=sids, codebook=codebook), embedding, launch.progress())
    typed = [name for name in ("sids", "codebook", "embedding") if context.get_parameter_source(name).name == "COMMANDLINE"]
    if typed:
        raise UserError(f"--{' and --'.join(typed)} mean nothing to --model {sizes.name}, which knows items by number. Leave out.")
    return None
