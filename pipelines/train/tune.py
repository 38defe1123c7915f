"""Search for the hyperparameters of a model with Optuna, by the Recall@10 of validation users alone.

A study is kept in a journal, which a later call continues. The run of a trial is deleted; only its values and
its result are kept.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pyarrow as pa
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from pipelines import artifacts
from pipelines.durable import locked
from pipelines.errors import TrainingDiverged, UserError, reading
from pipelines.progress import Progress
from pipelines.train.plan import Plan
from pipelines.train.run import train_run
from pipelines.train.spaces import SPACES, Choices, FloatRange, Space
from pipelines.workspace import Run, Workspace

MakePlan = Callable[[dict[str, Any]], Plan]  # values of options → plan

MAX_TRIAL = 99_999  # the name of a study must leave room for this trial number


@dataclass(frozen=True)
class _Study:
    """A study and what its trials need."""

    workspace: Workspace
    name: str
    make_plan: MakePlan
    space: Space
    optuna_study: optuna.Study

    def run(self, number: int) -> Run:
        """Return the run of a trial."""
        return self.workspace.run(_run_name(self.name, number))


def space_of(model: str, fixed: set[str]) -> Space:
    """Return the search space of a model without the options that are fixed.

    Raises:
        UserError: No option is left.
    """
    space = {name: values for name, values in SPACES[model].items() if name not in fixed}
    if not space:
        raise UserError(
            f"Every option of the space of --model {model} is fixed; "
            f"leave one of {', '.join(SPACES[model])} open."
        )
    return space


def tune(
    workspace: Workspace, make_plan: MakePlan, space: Space, name: str, minutes: float, progress: Progress
) -> Path:
    """Train one trial after another until the minutes are used.

    The first trial has the values of the preset. The sampler is a tree-structured Parzen estimator. A trial
    ends early if its Recall@10 is below the median of the other trials at the same validation. A later call
    continues the study: trials that were killed do not count, and `minutes` are those of the later call.

    Args:
        workspace: workspace with the data set; the study is written there.
        make_plan: returns the plan for a trial's values; the plan for no values is the preset's.
        space: search space, see `space_of`.
        name: name of the study; the same name continues it.
        minutes: no trial begins after these minutes.
        progress: receives messages and progress.

    Returns:
        Path of trials.parquet, which has a row for each trial and option.

    Raises:
        UserError: The study of that name has other settings.
        KeyboardInterrupt: The user pressed Ctrl-C. Finished trials are kept.
    """
    folder, plan = workspace.study(name), make_plan({})
    workspace.run(_run_name(name, MAX_TRIAL))  # refuse at once a name that is too long for the trials' names
    preset_values = _values(plan)
    space = {option: _including(values, preset_values[option]) for option, values in space.items()}
    with locked(folder, lambda: progress.say(f"Waiting for another command that works on study {name}.")):
        settings = {option: dataclasses.asdict(values) for option, values in space.items()}
        _check_settings(folder, {**plan.to_dict(), "space": settings})
        study = _Study(workspace, name, make_plan, space, open_study(folder, name))
        _prepare(study, plan)
        end = time.monotonic() + 60 * minutes
        while time.monotonic() < end:
            _run_trial(study, progress)
            _write_trials(folder, study.optuna_study, plan)
    return folder / "trials.parquet"


def open_study(folder: Path, name: str) -> optuna.Study:
    """Open a study, new or existing, and remove what a killed call left: half a line, a lock, running trials.

    Raises:
        UserError: The journal is damaged.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal = folder / "journal.log"
    folder.mkdir(parents=True, exist_ok=True)
    for lock in folder.glob(f"{journal.name}.lock*"):
        lock.unlink()
    if journal.exists() and not (lines := journal.read_bytes()).endswith(b"\n"):
        with artifacts.atomic(journal) as temporary:
            temporary.write_bytes(lines[: lines.rfind(b"\n") + 1])
    with reading(journal, "journal of a study", "Remove the study's folder, or choose another --name."):
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(journal)))
        study = optuna.create_study(
            storage=storage, study_name=name, direction="maximize", load_if_exists=True
        )
        for trial in study.get_trials(states=(TrialState.RUNNING,)):
            study.tell(trial.number, state=TrialState.FAIL)
    return study


def best_values(path: Path) -> tuple[float, dict[str, str]]:
    """Return the best validation Recall@10 of trials.parquet, a fraction, and the values of that trial by
    option.

    Raises:
        UserError: No trial is finished.
    """
    rows = [row for row in artifacts.read(path, "trials").to_pylist() if row["state"] == "complete"]
    if not rows:
        raise UserError(f"{path} holds no finished trial. Give the study more --total-minutes.")
    best = max(rows, key=lambda row: row["recall"])
    return best["recall"], {row["option"]: row["value"] for row in rows if row["trial"] == best["trial"]}


def _prepare(study: _Study, plan: Plan) -> None:
    """Delete the runs of killed trials, set sampler and pruner, and enqueue the preset as the first trial."""
    trials = study.optuna_study.trials
    for trial in trials:
        shutil.rmtree(study.run(trial.number).path, ignore_errors=True)
    study.optuna_study.sampler = optuna.samplers.TPESampler(
        seed=plan.train.seed + len(trials), n_startup_trials=8
    )
    study.optuna_study.pruner = optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=1)
    if not trials:
        values = {option: value for option, value in _values(plan).items() if option in study.space}
        study.optuna_study.enqueue_trial(
            {option: value for option, value in values.items() if value is not None}
        )


def _run_trial(study: _Study, progress: Progress) -> None:
    trial = study.optuna_study.ask()
    values = {option: _suggest(trial, option, possible) for option, possible in study.space.items()}
    settings = (
        f"{option} {value:.3g}" if isinstance(value, float) else f"{option} {value}"
        for option, value in values.items()
    )
    progress.say(f"Trial {trial.number}: {', '.join(settings)}")
    run, is_pruned = study.run(trial.number), False

    def should_prune(validation: int, recall: float) -> bool:
        nonlocal is_pruned
        trial.report(recall, validation)
        is_pruned = bool(trial.should_prune())
        return is_pruned

    try:
        train_run(
            study.workspace,
            study.make_plan(values),
            progress,
            name=run.name,
            existing="replace",
            should_prune=should_prune,
        )
        best = run.read_config()["best"]
        assert best is not None, "a finished training has been validated"
        if is_pruned:
            study.optuna_study.tell(trial, state=TrialState.PRUNED)
        else:
            study.optuna_study.tell(trial, best["recall@10"])
    except (UserError, TrainingDiverged) as error:  # the values exclude each other, or the training diverges
        progress.say(f"Trial {trial.number} failed: {error}")
        study.optuna_study.tell(trial, state=TrialState.FAIL)
    finally:
        shutil.rmtree(run.path, ignore_errors=True)


def _run_name(study: str, number: int) -> str:
    return f"{study}-trial-{number}"


def _including(possible: Choices | FloatRange, value: Any) -> Choices | FloatRange:
    """Return the choices including the preset's value; a range and a value of None change nothing."""
    if isinstance(possible, Choices) and value not in (None, *possible.values):
        return Choices((*possible.values, value))
    return possible


def _suggest(trial: optuna.Trial, option: str, possible: Choices | FloatRange) -> Any:
    if isinstance(possible, Choices):
        return trial.suggest_categorical(option, possible.values)
    return trial.suggest_float(option, possible.low, possible.high, log=possible.log)


def _values(plan: Plan) -> dict[str, Any]:
    """Return the values of all fields of the model and of training."""
    return {**dataclasses.asdict(plan.model_settings), **dataclasses.asdict(plan.train)}


def _check_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Write the settings of a new study, or compare them with those of the existing study.

    Raises:
        UserError: The study has other settings.
    """
    path = folder / "study.json"
    if path.exists() and artifacts.read_json(path) != artifacts.json_values(settings):
        raise UserError(
            f"{folder} holds a study with other settings. Choose another --name, or remove that folder."
        )
    artifacts.write_json(path, settings)


def _write_trials(folder: Path, study: optuna.Study, plan: Plan) -> None:
    rows = [row for trial in study.trials for row in _rows(trial)]
    types = artifacts.SCHEMAS["trials"]
    table = pa.table(
        {column: pa.array([row[column] for row in rows], kind) for column, kind in types.items()}
    )
    artifacts.write(folder / "trials.parquet", "trials", table, config=plan.to_dict())


def _rows(trial: FrozenTrial) -> list[dict[str, Any]]:
    """Return the rows of trials.parquet for a trial, one per option."""
    seconds = trial.duration.total_seconds() if trial.duration else None
    recall = trial.value if trial.value is not None else max(trial.intermediate_values.values(), default=None)
    shared = {"trial": trial.number, "state": trial.state.name.lower(), "recall": recall, "seconds": seconds}
    return [{**shared, "option": option, "value": str(value)} for option, value in trial.params.items()]
