"""Plans of runs that are made from a finished run: final runs, and runs that continue it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from pipelines import artifacts, typed_json
from pipelines.data.catalogue import Catalogue, sources
from pipelines.errors import UserError
from pipelines.models import loading
from pipelines.models.base import Recommender
from pipelines.progress import Progress
from pipelines.train.config import CONTINUED_RATE, CONTINUED_STEPS, check_read
from pipelines.train.plan import Continued, Final, Plan
from pipelines.train.protocol import check_split, require_finished
from pipelines.workspace import Dataset, Run, RunConfig, Workspace


def final_plan(workspace: Workspace, run: Run) -> Plan:
    """Return the plan that trains a run's settings on whole sequences, to the step of its best validation.

    The learning rate of each step is that of the run: its schedule keeps the run's whole budget of steps.

    Raises:
        UserError: the run is a final run itself, is not finished, or its inputs have changed.
    """
    config = run.read_config()
    if made := config.get("final"):
        raise UserError(f"{run.name} is a final run already, of {made['of']}.")
    plan = finished_plan(run, config)
    _refuse_cold(plan, run, "--final")
    inputs = sources(workspace.require_dataset(plan.dataset), plan.sids, plan.training_needs)
    for name, path in inputs.items():
        if name not in config["inputs"] or config["inputs"][name]["sha256"] != artifacts.digest(path):
            raise UserError(
                f"{run.path} was trained on other {name} than {path} now holds. "
                f"Train it again with --force, then: maskgr train --final {run.name}"
            )
    best = config.get("best")
    assert best is not None, "a finished training has been validated"
    steps = max(budget_steps(plan, config), best["step"])
    train = dataclasses.replace(plan.train, steps=steps, minutes=None)
    final = Final(run.name, artifacts.digest(run.weights), best["step"])
    return dataclasses.replace(plan, train=train, final=final)


def _refuse_cold(plan: Plan, run: Run, option: str) -> None:
    if plan.train.cold:
        raise UserError(
            f"{option} {run.name}: items were left out of its training (--cold {plan.train.cold:g}). "
            "Train a run without --cold first."
        )


def continued_plan(run: Run, settings: dict[str, Any]) -> Plan:
    """Return the plan that continues a run on its data set, which may have grown.

    The steps and the peak learning rate are shares of those of the run, or of the run that it descends from;
    the learning rate rises and falls anew. A run that continues a final run is a final run too.

    Args:
        run: the finished run.
        settings: values of `TrainConfig` in place of the run's and of the shares, by field.

    Raises:
        UserError: the run is not finished, or a setting is refused.
    """
    config = run.read_config()
    plan = finished_plan(run, config)
    _refuse_cold(plan, run, "--continue")
    check_read(type(plan.model_settings), settings)
    weights = artifacts.digest(run.weights)
    if plan.continued:
        continued = dataclasses.replace(plan.continued, of=run.name, weights=weights)
    else:
        continued = Continued(run.name, weights, budget_steps(plan, config), plan.train.learning_rate)
    defaults = {
        "steps": max(1, round(CONTINUED_STEPS * continued.first_steps)),
        "minutes": None,
        "learning_rate": CONTINUED_RATE * continued.first_rate,
    }
    train = dataclasses.replace(plan.train, **{**defaults, **settings})
    assert train.steps is not None, "a number of steps is set"
    final = dataclasses.replace(plan.final, steps=train.steps) if plan.final else None
    return dataclasses.replace(plan, train=train, final=final, continued=continued)


def finished_plan(run: Run, config: RunConfig) -> Plan:
    """Return the plan of a finished run.

    Args:
        run: the run.
        config: content of its config.json.

    Raises:
        UserError: the run is not finished, or its weights or its plan cannot be used.
    """
    require_finished(run, config)
    try:
        return Plan.from_dict(config)
    except (KeyError, typed_json.Mismatch) as error:
        raise UserError(
            f"{run.config} is not a run's configuration of this version ({error}). Train the run again."
        ) from None


def budget_steps(plan: Plan, config: RunConfig) -> int:
    """Return the number of steps that the whole budget of a finished run amounts to.

    A training that minutes bound has used some share of them in the steps that it did; all of them would have
    taken steps in proportion.
    """
    train = plan.train
    if train.minutes is None:
        assert train.steps is not None, "a training has steps or minutes"
        return train.steps
    by_steps = config["steps"] / train.steps if train.steps else 0.0
    used = min(1.0, max(by_steps, config["seconds"] / (60 * train.minutes)))
    return round(config["steps"] / used)


def load_continued(
    model: Recommender,
    workspace: Workspace,
    continued: Continued,
    dataset: Dataset,
    catalogue: Catalogue,
    inputs: dict[str, Path],
    progress: Progress,
) -> None:
    """Give a model the weights of the run that it continues; a counted model begins anew.

    Args:
        model: model over the present catalogue, with the initial weights of a new training.
        workspace: workspace of the run.
        continued: the run.
        dataset: present data set.
        catalogue: present catalogue.
        inputs: artifacts that the training reads, by name.
        progress: receives the number of new items.

    Raises:
        UserError: the run was trained again or cannot be read, its items are not the first ones, or it saw
            interactions that are held out now.
    """
    run = workspace.require_run(continued.of)
    check_split(f"--continue {run.name}", run, dataset)
    items = loading.check_inputs(run, run.read_config(), dataset, catalogue, inputs, any_sequences=True)
    if artifacts.digest(run.weights) != continued.weights:
        raise UserError(f"{run.name} was trained again. Begin with: maskgr train --continue {run.name}")
    new = f"; {catalogue.items - items:,} items are new" if catalogue.items > items else ""
    if model.config.is_counted:
        progress.say(f"All interactions are counted anew, those of {run.name} too{new}.")
        return
    loading.load_grown(model, run.weights, np.arange(items))
    progress.say(f"The training begins with the weights of {run.name}{new}.")
