"""`maskgr train`: train a model on sequences and semantic IDs."""

from __future__ import annotations

import dataclasses
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
from pipelines.options import check_choice, check_number, flag_named
from pipelines.tokenize.config import CODES, DIGITS, METHODS, TokenizeConfig
from pipelines.train.config import CONTINUED_RATE, CONTINUED_STEPS, TrainConfig
from pipelines.train.configure import configure, left_out, preset_values
from pipelines.train.presets import PRESET_NAMES
from pipelines.workspace import Dataset, Workspace

ModelOption = Annotated[str, checked("--model", f"Model: {', '.join(MODELS)}.", check_choice, tuple(MODELS))]
PresetOption = Annotated[
    str,
    checked(
        "--preset",
        f"Preset of hyperparameters: {', '.join(PRESET_NAMES)}. The presets of maskgr are shown below; "
        "`maskgr presets MODEL` shows those of other models.",
        check_choice,
        PRESET_NAMES,
    ),
]
SidsOption = Annotated[
    int,
    checked(
        "--sids", "Number of levels m of the semantic IDs; an item has m + 1 digits.", check_number, *DIGITS
    ),
]
CodebookOption = Annotated[int, checked("--codebook", "Number of codes V per digit.", check_number, *CODES)]
MethodOption = Annotated[
    str, checked("--method", f"Method of the semantic IDs: {', '.join(METHODS)}.", check_choice, METHODS)
]
EmbeddingOption = Annotated[
    str | None,
    checked(
        "--embedding", "Embeddings that the semantic IDs are made of.", check_name, show_default="the newest"
    ),
]
SemanticIdsOption = Annotated[
    str | None,
    checked(
        "--semantic-ids", "Name of existing semantic IDs, instead of the four options above.", check_name
    ),
]

SID_OPTIONS = {"sids", "codebook", "method", "embedding"}  # parameters that semantic IDs are made with

OF_ANY_TRAINING = {"name", "gpus", "processes", "track", "workspace"}  # parameters that change no settings
CONTINUED_OPTIONS = {field.name for field in dataclasses.fields(TrainConfig)} - {"horizon", "cold"}


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
            "--resume",
            help="Continue an interrupted run (the newest, or --name) as if it had never stopped.",
        ),
    ] = False,
    final: Annotated[
        str | None,
        checked(
            "--final",
            "Train the recipe of this finished run on whole sequences, for the steps that were best in its "
            "validation: the last items count, and the result cannot be evaluated.",
            check_name,
        ),
    ] = None,
    continue_: Annotated[
        str | None,
        checked(
            "--continue",
            "Go on from the weights of this finished run, on a data set that has grown since: its settings, "
            f"{CONTINUED_STEPS:.0%} of its steps, {CONTINUED_RATE:.0%} of its learning rate. Options of the "
            "training replace them.",
            check_name,
        ),
    ] = None,
    gpus: GpusOption = None,
    processes: ProcessesOption = None,
    track: Annotated[
        str | None, typer.Option(help="Accelerate tracker that receives the metrics, e.g. tensorboard.")
    ] = None,
    force: ForceOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Train a model. Missing semantic IDs are made first."""
    root = Workspace.find(workspace)
    launch.require_gpus(gpus)
    if resume:
        allowed = {"resume", *OF_ANY_TRAINING}
        _refuse(context, set(context.params) - allowed, "--resume takes its settings from the run")
    elif final is not None:
        allowed = {"final", "force", *OF_ANY_TRAINING}
        _refuse(context, set(context.params) - allowed, f"--final takes its settings from {final}")
    elif continue_ is not None:
        allowed = {"continue_", "force", *OF_ANY_TRAINING, *CONTINUED_OPTIONS}
        _refuse(context, set(context.params) - allowed, f"--continue takes its settings from {continue_}")
    else:
        model_settings, schedule = configure(model, preset, settings)
        note_left_out(model, preset, settings)
        data = root.require_dataset(dataset)
        if dataset is None and not launch.is_worker():
            console.note(f"Data set: {data.name} (the last downloaded or imported; --dataset takes another).")
        sids_name = ensure_inputs(context, data, model_settings)
    if launch.relaunch(gpus, processes):
        return
    keep_freed_memory()
    from pipelines.train.derived import continued_plan, final_plan
    from pipelines.train.existing import Existing, find_unfinished
    from pipelines.train.plan import Plan
    from pipelines.train.run import train_run

    existing: Existing = "resume" if resume else "replace" if force else "keep"
    if resume:
        run, plan = find_unfinished(root, name)
        name = run.name
    elif final is not None:
        plan, name = final_plan(root, root.require_run(final)), name or f"{final}-final"
    elif continue_ is not None:
        plan = continued_plan(root.require_run(continue_), settings)
        name = name or f"{continue_}-continued"
    else:
        plan = Plan(data.name, sids_name, model, preset, model_settings, schedule)
    run = train_run(root, plan, launch.progress(), name=name, existing=existing, track=track)
    if launch.is_first():
        measured = f"Measure it with: maskgr eval {run.name}"
        if plan.final:
            measured = f"It saw the items that eval tests on; {plan.final.of} was measured in its place."
        console.note(f"Trained {run.name} ({run.path}). {measured}")


def note_left_out(model: str, preset: str, settings: dict[str, Any]) -> None:
    """Print the values of the preset that have no effect beside the given settings."""
    if (names := left_out(model, preset, settings)) and not launch.is_worker():
        flags = ", ".join(map(flag_named, names))
        console.note(f"Left out of the preset {preset}, without effect beside the other options: {flags}.")


def _refuse(context: typer.Context, refused: set[str], reason: str) -> None:
    """Raise if the user gave one of the `refused` parameters.

    Raises:
        UserError: The user gave one. The message begins with the reason.
    """
    sources = {name: context.get_parameter_source(name) for name in context.params if name in refused}
    given = [name for name, source in sources.items() if source and source.name == "COMMANDLINE"]
    if given:
        options = ", ".join(f"--{name.strip('_').replace('_', '-')}" for name in given)
        raise UserError(f"{reason}; leave out {options}.")


def ensure_inputs(context: typer.Context, data: Dataset, model_settings: ModelConfig) -> str | None:
    """Make the semantic IDs that the command's options select, if they do not exist, and return their name.

    Returns:
        Name of the semantic IDs; None for a model that does not use semantic IDs.

    Raises:
        UserError: Options of semantic IDs were given for a model that identifies items by their number, or
            together with --semantic-ids.
    """
    if not model_settings.needs:
        _refuse(
            context,
            SID_OPTIONS | {"semantic_ids"},
            f"--model {model_settings.name} identifies items by number, not by semantic IDs",
        )
        return None
    from pipelines.defaults import ensure_sids, named_sids

    options = context.params
    if options["semantic_ids"] is not None:
        _refuse(context, SID_OPTIONS, "--semantic-ids names semantic IDs that exist already")
        return named_sids(data, options["semantic_ids"], launch.progress())
    tokenizer = TokenizeConfig(
        num_levels=options["sids"], codebook=options["codebook"], method=options["method"]
    )
    return ensure_sids(data, tokenizer, options["embedding"], launch.progress())
