"""Plans of runs that are made from a finished run: final runs."""

from __future__ import annotations

import dataclasses

from pipelines import artifacts, typed_json
from pipelines.data.catalogue import sources
from pipelines.errors import UserError
from pipelines.train.plan import Final, Plan
from pipelines.workspace import Run, RunConfig, Workspace


def final_plan(workspace: Workspace, run: Run) -> Plan:
    """Return the plan that trains a run's recipe on whole sequences, for the steps of its best validation.

    The learning rate of each step is that of the run: its schedule keeps the run's whole budget of steps.

    Raises:
        UserError: the run is a final run itself, is not finished, or its inputs have changed.
    """
    config = run.read_config()
    if made := config.get("final"):
        raise UserError(f"{run.name} is a final run already, of {made['of']}.")
    plan = finished_plan(run, config)
    inputs = sources(workspace.require_dataset(plan.dataset), plan.sids, plan.model_settings.training_needs)
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


def finished_plan(run: Run, config: RunConfig) -> Plan:
    """Return the plan of a finished run.

    Args:
        run: the run.
        config: content of its config.json.

    Raises:
        UserError: the run is not finished, or its weights or its plan cannot be used.
    """
    state = config.get("state")
    if state == "diverged":
        raise UserError(f"{run.name} diverged. Lower its --learning-rate and train it again with --force.")
    if state != "finished":
        raise UserError(
            f"{run.name} is not finished. Finish it with: maskgr train --resume --name {run.name}"
        )
    if not run.weights.exists() or artifacts.digest(run.weights) != config.get("weights"):
        raise UserError(
            f"{run.weights} does not hold the weights that {run.config} records. "
            "Train the run again with --force."
        )
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
