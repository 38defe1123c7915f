"""`maskgr train`: train a model on sequences and semantic IDs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

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
from maskgr_cli.train_plans import new_plans, train_teachers
from maskgr_cli.train_settings import (
    ConfigOption,
    FormatOption,
    PrintConfigOption,
    by_source,
    explain_derived,
    explain_new,
    is_given,
    refuse,
    show_settings,
)
from pipelines.models.registry import MODELS
from pipelines.options import check_choice, check_number, has_no_effect
from pipelines.tokenize.config import CODES, DIGITS, METHODS
from pipelines.train.config import CONTINUED_OPTIONS, CONTINUED_RATE, CONTINUED_STEPS, TrainConfig
from pipelines.train.configure import preset_values
from pipelines.train.presets import PRESET_NAMES
from pipelines.train.presets.maskgr import STRONG
from pipelines.train.strong import TEACHERS, trains_teachers
from pipelines.workspace import Workspace

if TYPE_CHECKING:
    from pipelines.train.plan import Plan

ModelOption = Annotated[str, checked("--model", f"Model: {', '.join(MODELS)}.", check_choice, tuple(MODELS))]
PRESETS = (*PRESET_NAMES, STRONG)
PresetOption = Annotated[
    str,
    checked(
        "--preset",
        f"Preset of hyperparameters: {', '.join(PRESETS)}. The presets of maskgr are shown below; `maskgr "
        f"presets MODEL` shows those of other models. {STRONG} is one of maskgr: it trains teachers first, "
        "and then a run of the size of small that learns from them.",
        check_choice,
        PRESETS,
    ),
]
SidsOption = Annotated[
    int,
    checked(
        "--sids",
        "Number of levels m of the semantic IDs; deduplication digits follow, one or more.",
        check_number,
        *DIGITS,
    ),
]
CodebookOption = Annotated[
    int | None,
    checked(
        "--codebook",
        "Number of codes V per digit.",
        check_number,
        *CODES,
        show_default="256; of an item softmax without item embeddings by the number of items",
    ),
]
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

JobsOption = Annotated[
    int | None,
    checked(
        "--jobs",
        f"Number of teachers of the preset {STRONG} that are trained at the same time, each in a process on "
        "cores or a GPU of its own.",
        check_number,
        1,
        len(TEACHERS),
        show_default="1",
    ),
]

# Parameters that change no settings.
OF_ANY_TRAINING = {"name", "gpus", "processes", "jobs", "track", "workspace"}
OF_A_NEW_ONE = {"resume", "force", "config", "print_config", "format_", *OF_ANY_TRAINING}


def register(app: typer.Typer) -> None:
    app.command()(train)


@config_options(*MODELS.values(), TrainConfig, presets=preset_values("maskgr", PRESET_NAMES))
def train(
    context: typer.Context,
    settings: dict[str, Any],
    dataset: DatasetOption = None,
    model: ModelOption = "maskgr",
    preset: PresetOption = "small",
    sids: SidsOption = 4,
    codebook: CodebookOption = None,
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
            help="Continue an interrupted run as if it had never stopped: the newest, or the one that --name "
            "or the options of the training name. A run of that name that does not exist begins, and a "
            "finished one stays, so a job that is started again has one command.",
        ),
    ] = False,
    final: Annotated[
        str | None,
        checked(
            "--final",
            "Train the settings of this finished run on whole sequences, for the steps that were best in its "
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
    config: ConfigOption = None,
    print_config: PrintConfigOption = False,
    format_: FormatOption = "table",
    gpus: GpusOption = None,
    processes: ProcessesOption = None,
    jobs: JobsOption = None,
    track: Annotated[
        str | None, typer.Option(help="Accelerate tracker that receives the metrics, e.g. tensorboard.")
    ] = None,
    force: ForceOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Train a model. Missing semantic IDs are made first."""
    root = launch.find_workspace(workspace)
    launch.require_gpus(gpus)
    _check_options(context)
    _check_jobs(context, settings)
    typed, file = by_source(context, settings)
    takes_run = resume and _takes_settings_from_run(context, root)
    is_new = not (takes_run or final or continue_)
    if print_config:
        if is_new:
            explained = explain_new(context, root, typed, file)
        else:
            explained = explain_derived(context, *_derived(context, root, settings), typed, file)
        show_settings(*explained, format_)
        return
    if is_new:
        *teachers, plan = new_plans(context, root, typed, file)
    if launch.relaunch(gpus, processes):
        return
    keep_freed_memory()
    from pipelines.train.existing import Existing, find_unfinished
    from pipelines.train.run import train_run

    existing: Existing = "resume" if resume else "replace" if force else "keep"
    if takes_run:
        run, plan = find_unfinished(root, name)
        name = run.name
    elif is_new:
        train_teachers(root, teachers, name or plan.name, force, jobs or 1)
    else:
        plan, name = _derived(context, root, settings)
    run = train_run(root, plan, launch.progress(), name=name, existing=existing, track=track)
    if launch.is_first():
        measured = f"Measure it with: maskgr eval {run.name}"
        if plan.final:
            measured = f"It saw the items that eval tests on; {plan.final.of} was measured in its place."
        console.note(f"Trained {run.name} ({run.path}). {measured}")


def _check_options(context: typer.Context) -> None:
    """Refuse options that have no effect beside --resume, --final or --continue, and --format alone.

    Raises:
        UserError: such an option was given.
    """
    given = context.params
    if given["resume"]:
        refuse(context, {"force", "print_config"}, "--resume continues a run")
    if given["final"]:
        allowed, reason = {"final", *OF_A_NEW_ONE}, f"--final takes its settings from {given['final']}"
    elif given["continue_"]:
        allowed = {"continue_", *OF_A_NEW_ONE, *CONTINUED_OPTIONS}
        reason = f"--continue takes its settings from {given['continue_']}"
    else:
        allowed, reason = set(given), ""
    refuse(context, set(given) - allowed, reason)
    if not given["print_config"]:
        refuse(context, {"format_"}, "--format is the format of --print-config")


def _check_jobs(context: typer.Context, settings: dict[str, Any]) -> None:
    """Refuse --jobs where no teachers are trained, and beside several processes for each training.

    Raises:
        UserError: it has no effect, or the machine has too few cores.
    """
    given = context.params
    if given["jobs"] is None:
        return
    if not trains_teachers(given["preset"], settings):
        raise has_no_effect([f"--jobs {given['jobs']}"], "a training without teachers to train first")
    refuse(context, {"gpus", "processes"}, "--jobs trains each teacher in one process")
    launch.require_cores("--jobs", given["jobs"])


def _takes_settings_from_run(context: typer.Context, root: Workspace) -> bool:
    """Return True if --resume takes the settings of a run that exists: no option names any settings."""
    if is_given(context, set(context.params) - {"resume", *OF_ANY_TRAINING}):
        return False
    name = context.params["name"]
    return name is None or any(run.config.exists() for run in (root.run(name), root.run(name).anew))


def _derived(context: typer.Context, root: Workspace, settings: dict[str, Any]) -> tuple[Plan, str]:
    """Return the plan that --final or --continue makes from a run, and the name of its run."""
    from pipelines.train.derived import continued_plan, final_plan

    given = context.params
    if given["final"]:
        plan, name = final_plan(root, root.require_run(given["final"])), f"{given['final']}-final"
    else:
        plan = continued_plan(root.require_run(given["continue_"]), settings)
        name = f"{given['continue_']}-continued"
    return plan, given["name"] or name
