"""`maskgr tune`: search for the hyperparameters of a model on the validation users."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from maskgr_cli import console, launch
from maskgr_cli.allocator import keep_freed_memory
from maskgr_cli.commands.train import (
    CodebookOption,
    EmbeddingOption,
    MethodOption,
    ModelOption,
    SemanticIdsOption,
    SidsOption,
)
from maskgr_cli.options import DatasetOption, WorkspaceOption, check_name, checked, config_options
from maskgr_cli.train_plans import ensure_inputs, note_left_out, settle_negatives
from pipelines.models.registry import MODELS
from pipelines.options import check_choice, check_number
from pipelines.train.config import TrainConfig
from pipelines.train.configure import configure, preset_values
from pipelines.train.presets import PRESET_NAMES
from pipelines.workspace import Workspace


def register(app: typer.Typer) -> None:
    app.command()(tune)


@config_options(*MODELS.values(), TrainConfig, presets=preset_values("maskgr", PRESET_NAMES))
def tune(
    context: typer.Context,
    settings: dict[str, Any],
    total_minutes: Annotated[
        float,
        checked(
            "--total-minutes",
            "Minutes of this call; no trial begins after them.",
            check_number,
            1e-9,
            1_000_000,
        ),
    ] = 60,
    dataset: DatasetOption = None,
    model: ModelOption = "maskgr",
    preset: Annotated[
        str,
        checked(
            "--preset",
            f"Preset that the first trial has: {', '.join(PRESET_NAMES)}. Those of maskgr are shown below; "
            "`maskgr presets MODEL` shows those of other models.",
            check_choice,
            PRESET_NAMES,
        ),
    ] = "small",
    sids: SidsOption = 4,
    codebook: CodebookOption = None,
    method: MethodOption = "kmeans",
    embedding: EmbeddingOption = None,
    semantic_ids: SemanticIdsOption = None,
    name: Annotated[
        str | None,
        checked(
            "--name",
            "Name of the study; the name of an existing study continues it.",
            check_name,
            show_default="DATASET-MODEL-PRESET",
        ),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            help="Database (sqlite:///FILE, postgresql://…) or file on a shared file system that keeps the "
            "study, so that commands on several machines share it.",
            show_default="a file in the workspace, for one command at a time",
        ),
    ] = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Search for the best hyperparameters on the validation users. Options that you give are not searched."""
    root = Workspace.find(workspace)
    model_settings, _ = configure(model, preset, settings)
    note_left_out(model, preset, settings)
    data = root.require_dataset(dataset)
    settings = settings | settle_negatives(model_settings, settings, data)
    sids_name = ensure_inputs(context, data, model_settings)
    keep_freed_memory()
    from pipelines.train.plan import Plan
    from pipelines.train.tune import space_of
    from pipelines.train.tune import tune as run_study

    def make_plan(values: dict[str, Any]) -> Plan:
        return Plan(data.name, sids_name, model, preset, *configure(model, preset, {**settings, **values}))

    name = name or f"{data.name}-{model}-{preset}"
    space = space_of(model, set(settings))
    trials = run_study(root, make_plan, space, name, total_minutes, launch.progress(), storage)
    show_trials(f"Study {name}", trials)
    _print_best(trials, model, preset, settings)


def show_trials(title: str, path: Path, most: int = 10) -> None:
    """Print the best trials of a study, one row each.

    Args:
        title: title of the table.
        path: path of trials.parquet.
        most: largest number of rows.

    Raises:
        UserError: The file cannot be read.
    """
    from pipelines import artifacts

    trials: dict[int, dict[str, Any]] = {}
    for row in artifacts.read(path, "trials").to_pylist():
        trials.setdefault(row["trial"], row | {"options": {}})["options"][row["option"]] = row["value"]
    ranked = sorted(
        trials.values(),
        key=lambda trial: (trial["state"] == "complete", trial["recall"] or 0.0),
        reverse=True,
    )
    options = list(dict.fromkeys(option for trial in ranked for option in trial["options"]))
    rows = [
        (
            trial["trial"],
            trial["state"],
            "" if trial["recall"] is None else f"{100 * trial['recall']:.2f}",
            *(_short(trial["options"].get(option, "")) for option in options),
        )
        for trial in ranked[:most]
    ]
    headers = ["trial", "state", "R@10", *(option.replace("_", " ") for option in options)]
    console.table(
        title,
        headers,
        rows,
        f"{len(trials)} trials; the best {len(rows)}, on validation users, in percent. All: {path}",
    )


def _short(value: str) -> str:
    try:
        return f"{float(value):.3g}"
    except ValueError:
        return value


def _print_best(trials: Path, model: str, preset: str, settings: dict[str, Any]) -> None:
    """Print the best Recall@10 of a study and the command that trains with its values."""
    from pipelines.train.tune import best_values

    recall, values = best_values(trials)
    all_values = {**{name: str(value) for name, value in settings.items()}, **values}
    options = " ".join(
        f"--{'no-' * (value == 'False')}{name.replace('_', '-')}"
        + ("" if value in ("True", "False") else f" {value}")
        for name, value in all_values.items()
    )
    console.note(
        f"Best validation Recall@10: {100 * recall:.2f}. "
        f"Train it with: maskgr train --model {model} --preset {preset} {options}"
    )
