"""Jobs of a grid: one run and all evaluations of it. A job without evaluations trains its run."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from pipelines import artifacts, typed_json
from pipelines.decode.config import Decoding
from pipelines.errors import UserError
from pipelines.train.plan import Plan
from pipelines.workspace import RunConfig, Workspace


class JobFile(TypedDict):
    """Content of a job's file, which tells a process what to do."""

    run: str
    plan: RunConfig
    split: str
    evaluations: dict[str, tuple[Decoding, bool]]
    anew: bool


@dataclass(frozen=True)
class Job:
    """One run and all evaluations of it.

    Attributes:
        run: name of the run.
        plan: plan of the training.
        split: "test" or "validation".
        evaluations: mapping from the key of a result to a decoding and to whether the run is diagnosed too.
        anew: if true, a run that is trained already is trained again.
    """

    run: str
    plan: Plan
    split: str
    evaluations: dict[str, tuple[Decoding, bool]]
    anew: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the job as JSON values, which `Job.read` reads from a file."""
        evaluations = {
            key: [dataclasses.asdict(decoding), diagnosed]
            for key, (decoding, diagnosed) in self.evaluations.items()
        }
        values = {"run": self.run, "plan": self.plan.to_dict(), "split": self.split, "anew": self.anew}
        return {**values, "evaluations": evaluations}

    @staticmethod
    def read(path: Path) -> Job:
        """Read a job from a file that holds the values of `to_dict`.

        Raises:
            UserError: the file is missing or damaged.
        """
        content = artifacts.read_json(path, JobFile)
        try:
            plan = Plan.from_dict(content["plan"])
        except (KeyError, typed_json.Mismatch) as error:
            raise UserError(f"{path} is not a job of this version ({error}). Run the grid again.") from None
        evaluations = {
            key: (Decoding(**decoding), diagnosed)
            for key, (decoding, diagnosed) in content["evaluations"].items()
        }
        return Job(content["run"], plan, content["split"], evaluations, content["anew"])


def claim_file(workspace: Workspace, job: Job) -> Path:
    """Return the path of the file that is locked while a command works on a job."""
    return (workspace.run_results / "jobs" / f"{job.run}.lock").absolute()


def job_files(workspace: Workspace, job: Job) -> tuple[Path, Path]:
    """Return the path of a job's file and the path of its log."""
    folder = workspace.run_results / "jobs"
    return folder / f"{job.run}.json", folder / f"{job.run}.log"
