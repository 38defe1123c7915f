"""Search for the hyperparameters of a model with Optuna, by the Recall@10 of validation users alone.

A study is kept in a journal, which a later call continues, or in a storage of Optuna that several machines
share. The run of a trial is deleted; only its values and its result are kept.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pyarrow as pa
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from pipelines import artifacts
from pipelines.data.catalogue import sources
from pipelines.durable import locked
from pipelines.errors import TrainingDiverged, UserError, reading
from pipelines.progress import Progress
from pipelines.train.plan import Plan
from pipelines.train.run import train_run
from pipelines.train.spaces import SPACES, Choices, FloatRange, Space
from pipelines.workspace import Run, Workspace

MakePlan = Callable[[dict[str, Any]], Plan]  # values of options → plan

HEARTBEAT_SECONDS = 60  # of a trial in a database; after three without one, its process counts as killed
SETTINGS = "settings"  # attribute of a study in a storage
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
    workspace: Workspace,
    make_plan: MakePlan,
    space: Space,
    name: str,
    minutes: float,
    progress: Progress,
    storage: str | None = None,
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
        storage: URL of a database, or path of a journal, that keeps the study in place of the workspace's
            journal. Calls on several machines that name it share the study: Optuna gives each trial to one.

    Returns:
        Path of trials.parquet, which has a row for each trial and option.

    Raises:
        UserError: The study of that name has other settings, or the storage cannot be used.
        KeyboardInterrupt: The user pressed Ctrl-C. Finished trials are kept.
    """
    folder, plan = workspace.study(name), make_plan({})
    workspace.run(_run_name(name, MAX_TRIAL))  # refuse at once a name that is too long for the trials' names
    preset_values = _values(plan)
    space = {option: _including(values, preset_values[option]) for option, values in space.items()}
    spaces = {option: dataclasses.asdict(values) for option, values in space.items()}
    settings = {**plan.to_dict(), "space": spaces}
    waiting = f"Waiting for another command that works on study {name}."
    with nullcontext() if storage else locked(folder, lambda: progress.say(waiting)):
        _check_settings(folder, settings)
        if storage:
            opened = open_shared_study(storage, name)
            _check_shared_settings(opened, {**settings, "inputs": _digests(workspace, plan)})
        else:
            opened = open_study(folder, name)
        study = _Study(workspace, name, make_plan, space, opened)
        _prepare(study, plan)
        end = time.monotonic() + 60 * minutes
        while time.monotonic() < end:
            _run_trial(study, plan, progress)
            _write_trials(folder, study.optuna_study, plan)
    return folder / "trials.parquet"


def open_study(folder: Path, name: str) -> optuna.Study:
    """Open a study, new or existing, and remove what a killed call left: half a line, a lock, running trials.

    Raises:
        UserError: The journal is damaged.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
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


def open_shared_study(storage: str, name: str) -> optuna.Study:
    """Open a study, new or existing, in a storage that several machines may use at the same time.

    A database knows of the trials of killed calls by their heartbeat, and the next trial marks them as
    failed. A journal does not; such trials stay unfinished and count for nothing.

    Raises:
        UserError: The storage cannot be used.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # heartbeats
    try:
        opened: optuna.storages.BaseStorage
        if "://" in storage:
            opened = optuna.storages.RDBStorage(
                storage, heartbeat_interval=HEARTBEAT_SECONDS, grace_period=3 * HEARTBEAT_SECONDS
            )
        else:
            opened = optuna.storages.JournalStorage(JournalFileBackend(storage))
        return optuna.create_study(storage=opened, study_name=name, direction="maximize", load_if_exists=True)
    except Exception as error:  # of SQLAlchemy, a database's driver, or a damaged journal
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UserError(
            f"--storage cannot be used ({reason}). Name a database, such as "
            "postgresql://user@host/studies or sqlite:///studies.db, or a file that all machines share."
        ) from None


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
    """Delete the runs of killed trials, set the pruner, and enqueue the preset as the first trial."""
    trials = study.optuna_study.trials
    for trial in trials:
        if trial.state.is_finished():
            shutil.rmtree(study.run(trial.number).path, ignore_errors=True)
    study.optuna_study.pruner = optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=1)
    if not trials:
        values = {option: value for option, value in _values(plan).items() if option in study.space}
        study.optuna_study.enqueue_trial(
            {option: value for option, value in values.items() if value is not None}, skip_if_exists=True
        )


def _run_trial(study: _Study, plan: Plan, progress: Progress) -> None:
    """Ask for the next trial, train it, and tell its result."""

    def train(trial: optuna.Trial) -> float:
        # Machines that share a study draw differently, because each trial has a number of its own.
        study.optuna_study.sampler = optuna.samplers.TPESampler(
            seed=plan.train.seed + trial.number, n_startup_trials=8
        )
        values = {option: _suggest(trial, option, possible) for option, possible in study.space.items()}
        settings = (
            f"{option} {value:.3g}" if isinstance(value, float) else f"{option} {value}"
            for option, value in values.items()
        )
        progress.say(f"Trial {trial.number}: {', '.join(settings)}")
        try:
            return _train(study, trial, values, progress)
        except (UserError, TrainingDiverged) as error:  # the values exclude each other, or it diverges
            progress.say(f"Trial {trial.number} failed: {error}")
            raise
        except SystemExit:  # SIGTERM, which Optuna does not catch
            study.optuna_study.tell(trial, state=TrialState.FAIL)
            raise

    study.optuna_study.optimize(train, n_trials=1, catch=(UserError, TrainingDiverged))


def _train(study: _Study, trial: optuna.Trial, values: dict[str, Any], progress: Progress) -> float:
    """Train with the values of a trial, and return the best Recall@10.

    Raises:
        optuna.TrialPruned: The training ended early.
    """
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
            raise optuna.TrialPruned
        return best["recall@10"]
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


def _check_shared_settings(study: optuna.Study, settings: dict[str, Any]) -> None:
    """Write the settings of a new study into its storage, or compare them with those of the existing study.

    Raises:
        UserError: Another machine has begun the study with other settings or on other data.
    """
    kept, wanted = study.user_attrs.get(SETTINGS), artifacts.json_values(settings)
    if kept is None:
        study.set_user_attr(SETTINGS, wanted)
    elif kept != wanted:
        changed = ", ".join(key for key in wanted if kept.get(key) != wanted[key])
        raise UserError(
            f"The study {study.study_name} of --storage has other settings ({changed}). Give the options "
            "that it was begun with, on the same data, or choose another --name."
        )


def _digests(workspace: Workspace, plan: Plan) -> dict[str, str]:
    """Return the sha256 of each input of a training, by name."""
    paths = sources(workspace.require_dataset(plan.dataset), plan.sids, plan.training_needs)
    return {name: artifacts.digest(path) for name, path in paths.items()}


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
