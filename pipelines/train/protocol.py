"""What a training held out. Runs that work together, as teachers of a run or as members of a committee, must
have seen the same interactions."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines import artifacts
from pipelines.errors import UserError
from pipelines.formats import trainings
from pipelines.temporal import TemporalSplit, holds_out_more, left_out_of
from pipelines.train.plan import Plan
from pipelines.workspace import Dataset, Run, RunConfig


@dataclass(frozen=True)
class Protocol:
    """The data of a training, and what it left out.

    Attributes:
        dataset: name of the data set.
        horizon: number of items at the end of a sequence that test, and validate.
        cold: share of the items that were left out.
        seed: seed that draws them.
    """

    dataset: str | None
    horizon: int
    cold: float
    seed: int

    @staticmethod
    def of_plan(plan: Plan) -> Protocol:
        """Return the protocol of a plan."""
        return Protocol(plan.dataset, plan.train.horizon, plan.train.cold, plan.train.seed)

    @staticmethod
    def of_run(run: Run) -> Protocol:
        """Return the protocol of a finished run.

        Raises:
            UserError: the run is not finished, or its weights are not those that it records.
        """
        config = run.read_config()
        require_finished(run, config)
        train = config.get("train", {})
        return Protocol(
            config.get("dataset"), train.get("horizon", 1), train.get("cold", 0.0), train.get("seed", 0)
        )

    def check_same(self, subject: str, other: Protocol, its_name: str) -> None:
        """Check that a run saw the same data as another training and left the same items out.

        Args:
            subject: begin of the message, with the name of the run.
            other: protocol of the other training.
            its_name: name of the other training in the message.

        Raises:
            UserError: it did not.
        """
        if self.dataset != other.dataset:
            raise UserError(
                f"{subject}: it was trained on the data set {self.dataset}, not on {other.dataset}."
            )
        if self.cold != other.cold or (self.cold and self.seed != other.seed):
            raise UserError(
                f"{subject}: its training left other items out (--cold {self.cold:g}, --seed {self.seed}) "
                f"than {its_name} (--cold {other.cold:g}, --seed {other.seed})."
            )


def check_split(subject: str, run: Run, dataset: Dataset) -> None:
    """Check that a run was not trained on interactions that the split of a data set holds out; a final run
    may be.

    Args:
        subject: begin of the message, with the name of the run.
        run: a run of an earlier state of the data set.
        dataset: the data set.

    Raises:
        UserError: it was.
    """
    now = TemporalSplit.of(dataset.sequences)
    for training in trainings(run.read_config()):
        before = training.get("split")
        if not training.get("final") and holds_out_more(now, TemporalSplit(**before) if before else None):
            raise UserError(
                f"{subject}: its training left out {left_out_of(before)}, and saw interactions that the "
                f"split of {dataset.name} holds out now. Train a new run."
            )


def require_finished(run: Run, config: RunConfig) -> None:
    """Check that a run is finished and has its weights.

    Args:
        run: the run.
        config: content of its config.json.

    Raises:
        UserError: it is not finished, or its weights are not those that it records.
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
