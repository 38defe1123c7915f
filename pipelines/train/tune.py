"""Hyperparameters of a model, looked for with Optuna on the validation users alone.

A study is a journal that a later call continues; its trials are runs that leave nothing but their figures.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pyarrow as pa
from optuna.trial import FrozenTrial, TrialState

from pipelines import artifacts
from pipelines.durable import locked
from pipelines.errors import TrainingDiverged, UserError, reading
from pipelines.progress import Progress
from pipelines.train.run import Plan, describe, train_run
from pipelines.train.spaces import SPACES, Among, Between, Space
from pipelines.workspace import Workspace

Configure = Callable[[dict[str, Any]], Plan]  # values of options → what to train

LAST = 99_999  # trial that a study's name leaves room for


def space_of(model: str, fixed: set[str]) -> Space:
    """What is looked through: the model's declared space without the options that a person fixed.

    Raises:
        UserError: nothing is left.
    """
    space = {name: values for name, values in SPACES[model].items() if name not in fixed}
    if not space:
        raise UserError(
            f"Every option of the space of --model {model} is fixed; leave one of {', '.join(SPACES[model])} open."
        )
    return space


def tune(
    workspace: Workspace, configure: Configure, space: Space, name: str, minutes: float, progress: Progress
) -> Path:
    """Train one trial after another until the minutes are used up; the first is the preset as it is.

    The sampler is a tree-structured Parzen estimator; a trial whose validation Recall@10 is below the median of the others at the
    same validation ends early. Called again, a study goes on where it stopped: trials that were killed do not count, and the minutes
    are those of this call.

    Args:
        configure: makes a plan of a trial's values; the plan of no values is the preset's.
        space: see `space_of`.
        name: of the study; the same name continues it.
        minutes: no trial begins after them.

    Returns:
        trials.parquet: a row for each trial and option.

    Raises:
        UserError: the study of that name is about something else.
        KeyboardInterrupt: Ctrl-C; what is finished is kept.
    """
    folder, plan = workspace.study(name), configure({})
    workspace.run(_trial(name, LAST))  # refuse a name that leaves no room for the trials' at once
    space = {option: _with(values, _values(plan)[option]) for option, values in space.items()}
    with locked(folder, lambda: progress.say(f"Waiting for another command that works on study {name}.")):
        _same(
            folder,
            {
                **describe(plan),
                "space": {option: dataclasses.asdict(values) for option, values in space.items()},
            },
            name,
        )
        study = open_study(folder, name)
        for trial in study.trials:  # of which a killed call left the run
            shutil.rmtree(workspace.run(_trial(name, trial.number)).path, ignore_errors=True)
        study.sampler = optuna.samplers.TPESampler(
            seed=plan.train.seed + len(study.trials), n_startup_trials=8
        )
        study.pruner = optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=1)
        if not study.trials:
            study.enqueue_trial(
                {
                    option: value
                    for option, value in _values(plan).items()
                    if option in space and value is not None
                }
            )
        ends = time.monotonic() + 60 * minutes
        while time.monotonic() < ends:
            _one_trial(workspace, study, configure, space, name, progress)
            _write(folder, study, plan)
    return folder / "trials.parquet"


def open_study(folder: Path, name: str) -> optuna.Study:
    """A study, new or gone on with, without what a killed call left: half a line, a lock, running trials.

    Raises:
        UserError: the journal is spoilt.
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
        storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(journal)))
        study = optuna.create_study(
            storage=storage, study_name=name, direction="maximize", load_if_exists=True
        )
        for trial in study.get_trials(states=(TrialState.RUNNING,)):
            study.tell(trial.number, state=TrialState.FAIL)
    return study


def best_values(path: Path) -> tuple[float, dict[str, str]]:
    """The best validation Recall@10 of trials.parquet and the options that gave it.

    Raises:
        UserError: no trial finished.
    """
    rows = [row for row in artifacts.read(path, "trials").to_pylist() if row["state"] == "complete"]
    if not rows:
        raise UserError(f"{path} holds no finished trial. Give the study more --budget.")
    best = max(rows, key=lambda row: row["recall"])
    return best["recall"], {row["option"]: row["value"] for row in rows if row["trial"] == best["trial"]}


def _one_trial(
    workspace: Workspace,
    study: optuna.Study,
    configure: Configure,
    space: Space,
    name: str,
    progress: Progress,
) -> None:
    trial = study.ask()
    values = {option: _suggest(trial, option, where) for option, where in space.items()}
    shown = (
        f"{option} {value:.3g}" if isinstance(value, float) else f"{option} {value}"
        for option, value in values.items()
    )
    progress.say(f"Trial {trial.number}: {', '.join(shown)}")
    run, ended = workspace.run(_trial(name, trial.number)), False

    def should_prune(validation: int, recall: float) -> bool:
        nonlocal ended
        trial.report(recall, validation)
        ended = bool(trial.should_prune())
        return ended

    try:
        train_run(
            workspace, configure(values), progress, name=run.name, force=True, should_prune=should_prune
        )
        best = run.read_config()["best"]["recall@10"]
        study.tell(trial, **({"state": TrialState.PRUNED} if ended else {"values": best}))
    except (UserError, TrainingDiverged) as error:  # values that do not go together, or lead nowhere
        progress.say(f"Trial {trial.number} failed: {error}")
        study.tell(trial, state=TrialState.FAIL)
    finally:
        shutil.rmtree(run.path, ignore_errors=True)


def _trial(name: str, number: int) -> str:
    return f"{name}-trial-{number}"


def _with(where: Among | Between, value: Any) -> Among | Between:
    """A preset's value is looked at too, though it be none of the few; None is no value."""
    return (
        Among((*where.values, value))
        if isinstance(where, Among) and value not in (None, *where.values)
        else where
    )


def _suggest(trial: optuna.Trial, option: str, where: Any) -> Any:
    if isinstance(where, Among):
        return trial.suggest_categorical(option, where.values)
    return trial.suggest_float(option, where.low, where.high, log=where.log)


def _values(plan: Plan) -> dict[str, Any]:
    return {**dataclasses.asdict(plan.model_settings), **dataclasses.asdict(plan.train)}


def _same(folder: Path, about: dict[str, Any], name: str) -> None:
    """Note what a study is about, or see that it is still that."""
    path = folder / "study.json"
    if path.exists() and artifacts.read_json(path) != artifacts.json_values(about):
        raise UserError(
            f"{folder} holds a study with other settings. Choose another --name, or remove that folder."
        )
    artifacts.write_json(path, about)


def _write(folder: Path, study: optuna.Study, plan: Plan) -> None:
    rows = [row for trial in study.trials for row in _rows(trial)]
    types = artifacts.SCHEMAS["trials"]
    table = pa.table(
        {column: pa.array([row[column] for row in rows], kind) for column, kind in types.items()}
    )
    artifacts.write(folder / "trials.parquet", "trials", table, config=describe(plan))


def _rows(trial: FrozenTrial) -> list[dict[str, Any]]:
    seconds = trial.duration.total_seconds() if trial.duration else None
    recall = trial.value if trial.value is not None else max(trial.intermediate_values.values(), default=None)
    shared = {"trial": trial.number, "state": trial.state.name.lower(), "recall": recall, "seconds": seconds}
    return [{**shared, "option": option, "value": str(value)} for option, value in trial.params.items()]
