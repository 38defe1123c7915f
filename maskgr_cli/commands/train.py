"""`maskgr train`: a model from sequences and semantic IDs."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from maskgr_cli import console, launch
from maskgr_cli.allocator import keep_freed_memory
from maskgr_cli.options import (
    DatasetOption,
    ForceOption,
    GpusOption,
    ProcessesOption,
    WorkspaceOption,
    check_name,
    checked,
    config_options,
)
from pipelines.errors import UserError
from pipelines.models.config import ModelConfig
from pipelines.models.registry import MODELS
from pipelines.options import check_choice, check_number
from pipelines.tokenize.config import CODES, DIGITS, METHODS, TokenizeConfig
from pipelines.train.config import TrainConfig
from pipelines.train.configure import configure, preset_values
from pipelines.train.presets import PRESET_NAMES
from pipelines.workspace import Dataset, Workspace

ModelOption = Annotated[str, checked("--model", f"Model: {', '.join(MODELS)}.", check_choice, tuple(MODELS))]
PresetOption = Annotated[
    str,
    checked(
        "--preset",
        f"Sizes and schedule to start from: {', '.join(PRESET_NAMES)}; maskgr's below, others': `maskgr presets MODEL`.",
        check_choice,
        PRESET_NAMES,
    ),
]
SidsOption = Annotated[
    int, checked("--sids", "Digits m of the semantic IDs; an item has m + 1.", check_number, *DIGITS)
]
CodebookOption = Annotated[int, checked("--codebook", "Codes V per digit.", check_number, *CODES)]
MethodOption = Annotated[
    str, checked("--method", f"Method of the semantic IDs: {', '.join(METHODS)}.", check_choice, METHODS)
]
EmbeddingOption = Annotated[
    str | None,
    checked("--embedding", "Embeddings the semantic IDs are made of.", check_name, show_default="the newest"),
]
SemanticIdsOption = Annotated[
    str | None,
    checked("--semantic-ids", "Semantic IDs by name, instead of by the four options above.", check_name),
]

MADE_OF = ("sids", "codebook", "method", "embedding")


def register(app: typer.Typer) -> None:
    app.command()(train)


@config_options(*MODELS.values(), TrainConfig, presets=preset_values("maskgr"))
def train(
    context: typer.Context,
    settings: dict[str, Any],
    dataset: DatasetOption = None,
    model: ModelOption = "maskgr",
    preset: PresetOption = "small",
    sids: SidsOption = 4,
    codebook: CodebookOption = 256,
    method: MethodOption = "kmeans",
    embedding: EmbeddingOption = None,
    semantic_ids: SemanticIdsOption = None,
    name: Annotated[
        str | None,
        checked("--name", "Name of the run.", check_name, show_default="DATASET-MODEL-PRESET-DIGEST"),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Continue an interrupted run (the newest, or --name) as if it had never stopped."
        ),
    ] = False,
    gpus: GpusOption = None,
    processes: ProcessesOption = None,
    track: Annotated[
        str | None, typer.Option(help="Accelerate tracker to send metrics to, e.g. tensorboard.")
    ] = None,
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
        model_settings, schedule = configure(model, preset, settings)
        data = place.require_dataset(dataset)
        if dataset is None and not launch.is_worker():
            console.note(f"Data set: {data.name} (the last downloaded or imported; --dataset takes another).")
        made = ensure_inputs(context, data, model_settings)
    if launch.relaunch(gpus, processes):
        return
    keep_freed_memory()
    from pipelines.train.run import Plan, train_run, unfinished

    if resume:
        run, plan = unfinished(place, name)
        name = run.name
    else:
        plan = Plan(data.name, made, model, preset, model_settings, schedule)
    run = train_run(place, plan, launch.progress(), name=name, resume=resume, force=force, track=track)
    if launch.is_first():
        console.note(f"Trained {run.name} ({run.path}). Measure it with: maskgr eval {run.name}")


def _refuse(context: typer.Context, refused: set[str], reason: str) -> None:
    """Raise where one of the `refused` parameters was typed."""
    typed = [
        name
        for name in context.params
        if name in refused and context.get_parameter_source(name).name == "COMMANDLINE"
    ]
    if typed:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in typed)
        raise UserError(f"{reason}; leave out {options}.")


def ensure_inputs(context: typer.Context, data: Dataset, model_settings: ModelConfig) -> str | None:
    """The semantic IDs to train on, as the command's options say, made now where they are missing; None for a model without.

    Raises:
        UserError: options of semantic IDs were typed for a model that knows items by number, or beside --semantic-ids.
    """
    if not model_settings.needs:
        _refuse(
            context,
            {*MADE_OF, "semantic_ids"},
            f"--model {model_settings.name} knows items by number, not by semantic IDs",
        )
        return None
    from pipelines.defaults import ensure_sids, named_sids

    asked = context.params
    if asked["semantic_ids"] is not None:
        _refuse(context, {*MADE_OF}, "--semantic-ids names semantic IDs that are made already")
        return named_sids(data, asked["semantic_ids"], launch.progress())
    tokenizer = TokenizeConfig(num_levels=asked["sids"], codebook=asked["codebook"], method=asked["method"])
    return ensure_sids(data, tokenizer, asked["embedding"], launch.progress())
