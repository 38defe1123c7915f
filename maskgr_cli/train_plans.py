"""Plans of a new training from the options of the command line, and the inputs that they need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from maskgr_cli import console, launch
from maskgr_cli.train_settings import count_items, count_sequences, names_sids, refuse_sids
from pipelines.models.config import ModelConfig
from pipelines.options import flag_named
from pipelines.tokenize.config import DIGITS, TokenizeConfig
from pipelines.train.configure import (
    codes_for,
    configure,
    left_out,
    negatives_for,
    softmax_share,
)
from pipelines.train.presets.maskgr import STRONG
from pipelines.train.strong import TEACHERS, Teacher, chosen_by_data, trains_teachers
from pipelines.workspace import Dataset, Workspace

if TYPE_CHECKING:
    from pipelines.progress import Progress
    from pipelines.train.plan import Plan


def new_plans(
    context: typer.Context, root: Workspace, typed: dict[str, Any], file: dict[str, Any]
) -> list[Plan]:
    """Return the plans of a new training: those of the teachers that its preset trains first, then its own.

    Args:
        context: context of `maskgr train`.
        root: the workspace.
        typed: settings of the command line.
        file: settings of the configuration file.

    Raises:
        UserError: the data set or a teacher is missing, or the settings are refused.
    """
    from pipelines.train.plan import Plan

    given = context.params
    model, preset = given["model"], given["preset"]
    _, schedule = configure(model, preset, typed, file)
    note_left_out(model, preset, typed, file)
    data = root.require_dataset(given["dataset"])
    has_teachers = trains_teachers(preset, typed | file)
    for teacher in () if has_teachers else schedule.teachers:
        root.require_run(teacher)
    if given["dataset"] is None and not launch.is_worker():
        console.note(f"Data set: {data.name} (the last downloaded or imported; --dataset takes another).")

    by_data = preset == STRONG  # rules that read the data set
    sizes = count_sequences(data) if by_data else (0, 0)

    def plan_of(
        model: str, preset: str, typed: dict[str, Any], file: dict[str, Any], teacher: Teacher | None = None
    ) -> Plan:
        config, schedule = configure(model, preset, typed, file)
        says = not has_teachers or teacher is TEACHERS[0]  # the same for all
        chosen: dict[str, Any] = settle_negatives(config, typed | file, data, says)
        if by_data:
            chosen |= chosen_by_data(model, preset, typed | file, *sizes)
        if chosen:
            config, schedule = configure(model, preset, typed | chosen, file)
        sids = launch.by_first(lambda: ensure_inputs(context, data, config, teacher))
        return Plan(data.name, sids, model, preset, config, schedule)

    if not has_teachers:
        return [plan_of(model, preset, typed, file)]
    teachers = [
        plan_of(teacher.model, "small", teacher.settings(file | typed), {}, teacher) for teacher in TEACHERS
    ]
    names = ",".join(plan.name for plan in teachers)
    student = plan_of(model, preset, typed | {"distill": names}, file)
    if not launch.is_worker():
        schedule = teachers[0].train
        console.note(
            f"{data.name} has {sizes[0]:,} users and {sizes[1]:,} interactions: {schedule.steps:,} steps of "
            f"{schedule.batch_size} windows of up to {student.model_settings.max_items} items for a teacher, "
            f"{student.train.steps:,} for the student."
        )
    return [*teachers, student]


def train_teachers(root: Workspace, teachers: list[Plan], student: str, force: bool, jobs: int) -> None:
    """Train the teachers of a preset; those that are trained already stay.

    Args:
        root: the workspace.
        teachers: their plans; none for most presets.
        student: name of the run that is to learn from them.
        force: if true, they are trained again.
        jobs: number of teachers that are trained at the same time, in processes of their own if there are
            several.

    Raises:
        UserError: a teacher cannot be trained.
        KeyboardInterrupt: the user pressed Ctrl-C; the state of every training is saved.
    """
    from pipelines.train.run import train_run

    if not teachers:
        return
    progress = launch.progress()
    progress.say(
        f"{student} learns from {len(teachers)} runs, which are trained first: "
        f"{', '.join(plan.name for plan in teachers)}. If this is interrupted, the same command with "
        "--resume goes on."
    )
    if jobs > 1:
        _train_side_by_side(root, teachers, force, jobs, progress)
    for number, plan in enumerate(teachers, 1):  # also those that failed in a process of their own
        progress.say(f"Teacher {number} of {len(teachers)}:")
        train_run(root, plan, progress, existing="replace" if force and jobs == 1 else "resume")
    progress.say("Student:")


def _train_side_by_side(
    root: Workspace, teachers: list[Plan], force: bool, jobs: int, progress: Progress
) -> None:
    """Train the teachers in processes of their own, each with its share of the cores or a GPU."""
    from pipelines.ablate.engine import run_all
    from pipelines.ablate.job import Job
    from pipelines.ablate.launchers import LocalLauncher

    work = [Job(plan.name, plan, "validation", {}, anew=force) for plan in teachers]
    run_all(root, work, progress, launcher=LocalLauncher(jobs), command=launch.job_command(root))


def note_left_out(
    model: str, preset: str, settings: dict[str, Any], file: dict[str, Any] | None = None
) -> None:
    """Print the values of preset and file that have no effect beside the given settings."""
    if (names := left_out(model, preset, settings, file)) and not launch.is_worker():
        flags = ", ".join(map(flag_named, names))
        source = "the configuration file" if file else f"the preset {preset}"
        console.note(f"Left out of {source}, without effect beside the other options: {flags}.")


def settle_negatives(
    config: ModelConfig, given: dict[str, Any], data: Dataset, says: bool = True
) -> dict[str, int]:
    """Choose the number of negatives where the user has not and the catalogue is large.

    Args:
        config: of the model.
        given: settings of the user.
        data: data set, whose items are counted.
        says: if true, the choice is printed.

    Returns:
        The value of the option, to be added to the settings; nothing if there is none to add.
    """
    items = count_items(data)
    negatives = None if "negatives" in given else negatives_for(config, items)
    if negatives is None:
        return {}
    if says and not launch.is_worker():
        console.note(
            f"{items:,} items: comparing with all of them would take {softmax_share(config, items):.2%} of "
            f"the multiplications of a training step. Training compares with {negatives:,} items drawn at "
            f"random (--negatives {negatives}); --negatives 0 compares with all."
        )
    return {"negatives": negatives}


def ensure_inputs(
    context: typer.Context, data: Dataset, model_settings: ModelConfig, teacher: Teacher | None = None
) -> str | None:
    """Make the semantic IDs that the command's options select, if they do not exist, and return their name.

    Args:
        context: context of the command.
        data: data set.
        model_settings: configuration of the model.
        teacher: teacher of a preset that the semantic IDs are for; None for the run of the command.

    Returns:
        Name of the semantic IDs; None for a model that does not use semantic IDs.

    Raises:
        UserError: Options of semantic IDs were given for a model that identifies items by their number, or
            together with --semantic-ids.
    """
    if not model_settings.needs:
        if model_settings.name == context.params["model"]:
            refuse_sids(context, model_settings.name)
        return None
    from pipelines.defaults import ensure_sids, named_sids

    options = context.params
    if names_sids(context):
        return named_sids(data, options["semantic_ids"], launch.progress())
    items, levels, codes = count_items(data), options["sids"], options["codebook"]
    if teacher:
        levels = min(DIGITS[1], levels * teacher.levels)
        codes = None if teacher.alone else codes
    if not codes:
        codes = codes_for(model_settings, levels, items)
        if model_settings.scores_codes_alone:
            launch.progress().say(
                f"{items:,} items without embeddings of their own: {codes} codes per digit, by their number"
                f"{'' if teacher else f' (--codebook {codes})'}."
            )
    tokenizer = TokenizeConfig(num_levels=levels, codebook=codes, method=options["method"])
    return ensure_sids(data, tokenizer, options["embedding"], launch.progress())
