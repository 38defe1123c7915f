"""Making of a committee: a run that holds the weights and configurations of other runs, its members.

It is whole in itself: members may be trained again or removed."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from functools import partial

import numpy as np
from safetensors.torch import load_file
from torch import Tensor

from pipelines import __version__, artifacts
from pipelines.data.held_out import HeldOut
from pipelines.data.stored import StoredSequences
from pipelines.durable import locked, whole
from pipelines.errors import UserError
from pipelines.formats import MemberConfig, finals_of
from pipelines.models.committee import Committee, committee_of
from pipelines.models.distribution import has_distribution
from pipelines.models.loading import TrainedRun, load_run, write_weights
from pipelines.options import quoted
from pipelines.processes import process_state
from pipelines.progress import Progress
from pipelines.train.committee_weights import Choice, choose_weights
from pipelines.train.protocol import Protocol
from pipelines.workspace import FORMAT_VERSION, Run, RunConfig, Workspace

EQUAL, VALIDATION = "equal", "validation"  # ways to weight the members, besides numbers
PROTOCOL = ("horizon", "cold", "seed")  # options of the training that decide what was held out


def make_committee(
    workspace: Workspace,
    name: str,
    members: Sequence[str],
    weights: str,
    progress: Progress,
    *,
    force: bool = False,
) -> Run:
    """Make a run whose distribution over the catalogue is the geometric mean of those of other runs.

    Args:
        workspace: workspace of the runs.
        name: name of the committee.
        members: names of two or more runs.
        weights: of the members: "equal", "validation" (see `choose_weights`), or numbers with commas between
            them.
        progress: receives messages and progress.
        force: if true, another committee of that name is replaced, with its evaluations.

    Raises:
        UserError: there is such a run already; a run cannot be a member, or the runs differ in what they have
            seen; or the weights cannot be read.
    """
    given = given_weights(weights, len(members))
    committee = workspace.run(name)
    check = partial(_refuse_existing, committee, force)
    check()
    runs = _checked(workspace, members)
    device = process_state().device
    trained = [load_run(workspace, run, device) for run in runs]
    for run, its in zip(runs, trained, strict=True):
        _check_model(run, its, runs[0], trained[0])
    model = committee_of([its.model for its in trained], given or [1.0] * len(runs)).eval()
    choice = Choice(model.weights, "given" if given else EQUAL)
    if weights == VALIDATION:
        choice = _chosen(model, runs[0], trained[0], progress)
    with whole(committee.path, check) as new:
        _write(Run(name, new), runs, choice, model.lead)
    return committee


def given_weights(text: str, members: int) -> list[float] | None:
    """Read weights that are given as numbers; None for a name.

    Args:
        text: value of --weights.
        members: number of the members.

    Raises:
        UserError: it is neither a known name nor a number for each member, each at least 0 and one above 0.
    """
    if text in (EQUAL, VALIDATION):
        return None
    try:
        weights = [float(part) for part in text.split(",")]
    except ValueError:
        raise UserError(
            f"--weights {quoted(text)} is neither {EQUAL} nor {VALIDATION} nor numbers such as 0.5,0.3,0.2."
        ) from None
    if len(weights) != members:
        raise UserError(f"--weights {text} has {len(weights)} numbers for {members} members.")
    if not all(0 <= weight < math.inf for weight in weights) or not 0 < sum(weights) < math.inf:
        raise UserError(f"--weights {text}: each number is at least 0, and one is above 0.")
    return weights


def _refuse_existing(run: Run, force: bool) -> None:
    """Refuse to replace a run that is no committee, or a committee without --force."""
    if not run.path.exists():
        return
    if run.config.exists() and "members" in run.read_config():
        if not force:
            raise UserError(f"{run.path} holds a committee. Replace it with --force, or take another name.")
        with locked(run.path, partial(_refuse_used, run)):
            return
    if any(run.path.iterdir()):
        raise UserError(
            f"{run.path} holds a trained run. Take another name, or remove it with: maskgr rm runs/{run.name}"
        )


def _refuse_used(run: Run) -> None:
    raise UserError(f"{run.path} is in use by another command. Wait until it ends.")


def _checked(workspace: Workspace, names: Sequence[str]) -> list[Run]:
    """Return the runs of some names, which have seen the same interactions.

    Raises:
        UserError: a name occurs twice, or a run is missing, not finished, a committee, or one of another
            protocol.
    """
    if len(names) < 2:
        raise UserError("A committee has two members or more: maskgr ensemble NAME RUN RUN")
    if len({*names}) < len(names):
        raise UserError(f"Each run can be a member once, not as in: {' '.join(names)}")
    runs = [workspace.require_run(name) for name in names]
    first, final = None, False
    for run in runs:
        config = run.read_config()
        if inner := config.get("members"):
            others = " ".join(member["run"] for member in inner)
            raise UserError(f"{run.name} is a committee. Name its members in its place: {others}")
        its = Protocol.of_run(run)
        if its.horizon > 1:
            raise UserError(
                f"{run.name}: it was trained with --horizon {its.horizon}; the members of a committee "
                "recommend one item at a time."
            )
        if first is None:
            first, final = its, bool(finals_of(config))
        its.check_same(run.name, first, runs[0].name)
        if bool(finals_of(config)) != final:
            raise UserError(
                f"{run.name} is {'no' if final else 'a'} final run, and {runs[0].name} is "
                f"{'one' if final else 'none'}. A committee has members of one kind (maskgr train --final "
                "RUN makes a final run)."
            )
    return runs


def _check_model(run: Run, trained: TrainedRun, first: Run, of_first: TrainedRun) -> None:
    """Check that a loaded run can be a member.

    Raises:
        UserError: its model gives no probabilities to items, or knows other items than the first run.
    """
    if not has_distribution(trained.model):
        raise UserError(
            f"{run.name}: --model {trained.model.config.name} decides one digit after another and gives no "
            "probabilities to all items at once, which a committee needs. Take a run of another model."
        )
    if not np.array_equal(trained.new_items, of_first.new_items):
        raise UserError(
            f"{run.name} was trained on other items of the catalogue than {first.name}: "
            f"{len(trained.new_items):,} items are new to it, {len(of_first.new_items):,} to {first.name}. "
            "Train both on the same items (maskgr train --continue RUN adds new ones)."
        )


def _chosen(model: Committee, run: Run, trained: TrainedRun, progress: Progress) -> Choice:
    """Choose weights on the validation users.

    Args:
        model: of the committee.
        run: one of the members.
        trained: the same, loaded.
        progress: receives progress.

    Raises:
        UserError: the runs are final runs, which have seen the validation's items.
    """
    if run.is_final:
        raise UserError(
            f"--weights {VALIDATION}: {run.name} is a final run, whose training saw the items of the "
            "validation. Take the weights of a committee of the validated runs, as numbers."
        )
    stored = StoredSequences(trained.dataset.sequences, trained.catalogue.items)
    return choose_weights(model, HeldOut(stored, "validation"), progress)


def _write(new: Run, runs: Sequence[Run], choice: Choice, lead: int) -> None:
    """Write weights and configuration of a committee.

    Args:
        new: files of the committee.
        runs: its members.
        choice: their weights.
        lead: number of the member whose semantic IDs are decoded.
    """
    weights: dict[str, Tensor] = {}
    for number, run in enumerate(runs):
        weights |= {f"members.{number}.{name}": tensor for name, tensor in load_file(run.weights).items()}
    digests = [artifacts.digest(run.weights) for run in runs]
    write_weights(new.weights, weights, {"members": digests, "weights": choice.weights})
    members: list[MemberConfig] = [
        {"run": run.name, "weight": weight, "config": run.read_config()}
        for run, weight in zip(runs, choice.weights, strict=True)
    ]
    first = members[0]["config"]
    config: RunConfig = {
        "format": FORMAT_VERSION,
        "dataset": first["dataset"],
        "sids": members[lead]["config"]["sids"],
        "model": "committee",
        "members": members,
        "weighting": choice.reason,
        "train": {key: first["train"][key] for key in PROTOCOL if key in first["train"]},
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "state": "finished",
        "version": __version__,
        "commit": artifacts.commit(),
        "machine": artifacts.machine(),
        "weights": artifacts.digest(new.weights),
    }
    artifacts.write_json(new.config, config)
