"""Teachers of a distillation: trained runs whose probabilities of items are soft targets of another run."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from pipelines import artifacts
from pipelines.errors import UserError
from pipelines.formats import finals_of
from pipelines.models.base import Recommender
from pipelines.models.distribution import has_distribution
from pipelines.models.loading import load_run
from pipelines.train.plan import Plan
from pipelines.train.protocol import Protocol, check_split
from pipelines.workspace import Run, RunConfig, Workspace


def teacher_weights(workspace: Workspace, plan: Plan, student: Run, recorded: RunConfig) -> dict[str, str]:
    """Return the sha256 of the weights of each teacher, by name of the run; empty without teachers.

    Args:
        workspace: workspace of the runs.
        plan: plan of the student.
        student: run of the student.
        recorded: content of the config.json of a student that goes on; empty for a new one. Its teachers stay
            as they were when it began, even if they were trained again or removed since.

    Raises:
        UserError: there is no such run, or it cannot be a teacher of this student.
    """
    names = plan.train.teachers
    if names and recorded.get("teachers"):
        return recorded["teachers"]
    for name in names:
        if name == student.name:
            raise UserError(f"--distill {name} names the run itself. Give the new run another --name.")
        run = workspace.require_run(name)
        _check_teacher(run, plan)
        check_split(f"--distill {name}", run, workspace.require_dataset(plan.dataset))
    return {name: artifacts.digest(workspace.run(name).weights) for name in names}


def _check_teacher(run: Run, plan: Plan) -> None:
    """Check that a run can teach: that it is finished, and has seen the same data and no target.

    Raises:
        UserError: it cannot.
    """
    if originals := finals_of(run.read_config()):
        raise UserError(
            f"--distill {run.name}: it is a final run, whose training saw the items that validation and test "
            f"measure. Take {', '.join(originals)} in its place."
        )
    teacher, student = Protocol.of_run(run), Protocol.of_plan(plan)
    teacher.check_same(f"--distill {run.name}", student, "this one")
    if teacher.horizon < student.horizon:
        raise UserError(
            f"--distill {run.name}: it was trained with --horizon {teacher.horizon}, on items that --horizon "
            f"{student.horizon} holds out."
        )


def check_unchanged(workspace: Workspace, run: Run) -> None:
    """Check that no teacher of a finished run was trained again since; a teacher that is gone counts as
    unchanged.

    Raises:
        UserError: one was.
    """
    for name, sha256 in run.read_config().get("teachers", {}).items():
        weights = workspace.run(name).weights
        if weights.exists() and artifacts.digest(weights) != sha256:
            raise UserError(
                f"{run.path} learned from an earlier training of {name}. Train it again with --force."
            )


def load_teachers(
    workspace: Workspace, plan: Plan, weights: Mapping[str, str], device: torch.device
) -> list[Recommender]:
    """Load the models of teachers, in evaluation mode.

    Args:
        workspace: workspace of the runs.
        plan: plan of the student.
        weights: sha256 of the weights of each teacher, by name of the run.
        device: device of the models.

    Raises:
        UserError: a run has other weights now, does not fit the data set, or gives no probabilities to items.
    """
    models = []
    for name, sha256 in weights.items():
        run = workspace.require_run(name)
        if not artifacts.has_digest(run.weights, sha256):
            raise UserError(
                f"{name} was trained again since this training began, and its soft targets are gone. Start "
                "the training again with --force."
            )
        model = load_run(workspace, run, device, any_sequences=plan.continued is not None).model
        if not has_distribution(model):
            raise UserError(
                f"--distill {name}: --model {model.config.name} decides one digit after another and gives no "
                "probabilities to all items at once. Take a run of another model."
            )
        models.append(model)
    return models
