"""`maskgr train`: a model from sequences and semantic IDs."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import typer

from maskgr_cli import console, launch
from maskgr_cli.allocator import keep_freed_memory
from maskgr_cli.options import DatasetOption, ForceOption, GpusOption, ProcessesOption, WorkspaceOption, config_options
from pipelines.errors import UserError
from pipelines.models.config import ModelConfig
from pipelines.tokenize.config import METHODS, TokenizeConfig
from pipelines.train.config import PRESETS, TrainConfig
from pipelines.train.config import preset as preset_values
from pipelines.workspace import Workspace


def register(app: typer.Typer) -> None:
    app.command()(train)


@config_options(ModelConfig, TrainConfig)
def train(
    context: typer.Context,
    settings: dict[str, Any],
    dataset: DatasetOption = None,
    model: Annotated[str, typer.Option(help="Model.")] = "maskgr",
    preset: Annotated[str, typer.Option(help=f"Sizes and schedule to start from: {', '.join(PRESETS)}.")] = "small",
    sids: Annotated[int, typer.Option(help="Digits m of the semantic IDs; an item has m + 1.")] = 4,
    codebook: Annotated[int, typer.Option(help="Codes V per digit.")] = 256,
    method: Annotated[str, typer.Option(help=f"Method of the semantic IDs: {', '.join(METHODS)}.")] = "kmeans",
    embedding: Annotated[str | None, typer.Option(help="Embeddings the semantic IDs are made of.", show_default="the newest")] = None,
    semantic_ids: Annotated[str | None, typer.Option(help="Semantic IDs by name, instead of by the four options above.")] = None,
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
        kept = {"resume", "name", "gpus", "processes", "track", "workspace"}
        _refuse(context, set(context.params) - kept, "--resume takes its settings from the run")
    else:
        if semantic_ids is not None:
            _refuse(context, {"sids", "codebook", "method", "embedding"}, "--semantic-ids names semantic IDs that are made already")
        sizes, schedule = configure(preset, settings)
        tokenizer = TokenizeConfig(layers=sids, codebook=codebook, method=method)
        data = place.require_dataset(dataset)
        if dataset is None and not launch.is_worker():
            console.note(f"Data set: {data.name} (the last downloaded or imported; --dataset takes another).")
        from pipelines.prepare import ensure_sids, named_sids

        if semantic_ids is None:
            made = ensure_sids(data, tokenizer, embedding, launch.progress())
        else:
            made = named_sids(data, semantic_ids, launch.progress())
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
        console.note(f"Trained {run.name} ({run.path}). Measure it with: maskgr eval --run {run.name}")


def _refuse(context: typer.Context, refused: set[str], reason: str) -> None:
    """Raise where one of the `refused` parameters was typed."""
    typed = [name for name in context.params if name in refused and context.get_parameter_source(name).name == "COMMANDLINE"]
    if typed:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in typed)
        raise UserError(f"{reason}; leave out {options}.")


def configure(preset: str, settings: dict[str, Any]) -> tuple[ModelConfig, TrainConfig]:
    """A preset with what was typed in its place; --steps or --minutes alone replaces the preset's whole budget.

    Raises:
        UserError: an unknown preset, or values that the configurations refuse.
    """
    values = preset_values(preset)
    if {"steps", "minutes"} & settings.keys():
        values = {name: value for name, value in values.items() if name not in ("steps", "minutes")}
    values |= settings
    sizes = {field.name for field in dataclasses.fields(ModelConfig)}
    return (
        ModelConfig(**{name: value for name, value in values.items() if name in sizes}),
        TrainConfig(**{name: value for name, value in values.items() if name not in sizes}),
    )
