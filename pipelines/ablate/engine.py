"""Makes the cells of a grid true: trains, or continues, each run once and evaluates it, here or side by side in processes.

WORKSPACE/ablate/KEY.json says where a cell's evaluation lies or why there is none; runs and evaluations are ordinary ones.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from pipelines import artifacts, shapes
from pipelines.ablate.planning import PlannedRun
from pipelines.decode.config import Decoding
from pipelines.errors import TrainingDiverged, UserError
from pipelines.evaluate.diagnose import diagnose_run
from pipelines.evaluate.run import evaluate_run
from pipelines.progress import Progress
from pipelines.train.run import Plan, describe, from_dict, train_run
from pipelines.workspace import Run, RunConfig, Workspace

DONE, FAILED, INTERRUPTED, OPEN = "done", "failed", "interrupted", "to do"
POLL_SECONDS = 0.2


class Outcome(TypedDict, total=False):
    """KEY.json."""

    reason: str
    run: str
    description: str
    evaluation: str
    diagnosis: str | None


class JobFile(TypedDict):
    """What a process is to do."""

    run: str
    plan: RunConfig
    split: str
    wanted: dict[str, tuple[Decoding, bool]]


@dataclass(frozen=True)
class Job:
    """One run and all that is to be measured of it; `wanted` maps an outcome's key to a decoding and whether to diagnose."""

    run: str
    plan: Plan
    split: str
    wanted: dict[str, tuple[Decoding, bool]]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; `Job.read` reads them."""
        wanted = {
            key: [dataclasses.asdict(decoding), diagnosed]
            for key, (decoding, diagnosed) in self.wanted.items()
        }
        return {"run": self.run, "plan": describe(self.plan), "split": self.split, "wanted": wanted}

    @staticmethod
    def read(path: Path) -> Job:
        """A job from a file of what `to_dict` gave.

        Raises:
            UserError: it is spoilt.
        """
        found = artifacts.read_json(path, JobFile)
        try:
            plan = from_dict(found["plan"])
        except (KeyError, shapes.Misfit) as error:
            raise UserError(f"{path} is not a job of this version ({error}). Run the grid again.") from None
        wanted = {
            key: (Decoding(**decoding), diagnosed) for key, (decoding, diagnosed) in found["wanted"].items()
        }
        return Job(found["run"], plan, found["split"], wanted)


def run_result(workspace: Workspace, planned: PlannedRun) -> dict[str, Any]:
    """What is known of a cell: its state, and where it failed, the reason; where it is done, the folders of its figures."""
    if planned.reason:
        return {"state": FAILED, "reason": planned.reason}
    if planned.plan is None:
        return {"state": DONE if planned.inputs else OPEN}
    path = workspace.run_result(planned.key) if planned.key else None
    found = artifacts.read_json(path, Outcome) if path and path.exists() else {}
    if found.get("reason"):
        return {"state": FAILED, "reason": found["reason"]}
    run = workspace.run(planned.run) if planned.run else None
    files = [run.evaluation(folder) / name for folder, name in _files(found)] if run else []
    if files and not any(map(artifacts.stale, files)):
        return {"state": DONE, "files": files, "description": found.get("description")}
    return {"state": INTERRUPTED if run and run.config.exists() else OPEN}


def _files(found: Outcome) -> list[tuple[str, str]]:
    """Folder and name of what an outcome points to."""
    evaluated = [(found["evaluation"], "metrics.parquet")] if "evaluation" in found else []
    return evaluated + ([(found["diagnosis"], "diagnosis.parquet")] if found.get("diagnosis") else [])


def expected_minutes(runs: list[Run], plan: Plan) -> float | None:
    """How long a training will take: what it may take at most, or its steps at the pace of an earlier run of the same model and batches.

    Args:
        runs: of the workspace, oldest first; the newest such run counts.

    Returns:
        None where neither is known.
    """
    known = [plan.train.minutes] if plan.train.minutes else []
    asked = describe(plan)
    for found in (run.read_config() for run in reversed(runs if plan.train.steps else [])):
        alike = all(found.get(key) == asked[key] for key in ("dataset", "model", "model_settings"))
        if (
            alike
            and found.get("steps")
            and found.get("seconds")
            and found["train"].get("batch_size") == plan.train.batch_size
        ):
            known.append(plan.train.steps * found["seconds"] / found["steps"] / 60)
            break
    return min(known, default=None)


def jobs_of(workspace: Workspace, planned: list[PlannedRun], split: str) -> list[Job]:
    """What is left to do, a job for each run, in the order of the cells; what failed before is tried again."""
    found: dict[str, Job] = {}
    for cell in planned:
        if cell.plan is None or not cell.key or run_result(workspace, cell)["state"] == DONE:
            continue
        job = found.setdefault(cell.run, Job(cell.run, cell.plan, split, {}))
        job.wanted[cell.key] = (cell.cell.decoding, cell.cell.diagnosed)
    return list(found.values())


def work(workspace: Workspace, job: Job, progress: Progress) -> None:
    """Do one job: train the run, or go on with it, and evaluate it; what a person's input makes impossible is noted as the outcome.

    Raises:
        KeyboardInterrupt: Ctrl-C; the training's state is saved.
    """
    try:
        run = train_run(workspace, job.plan, progress, name=job.run, resume=True)
    except (UserError, TrainingDiverged) as error:
        for key in job.wanted:
            _note(workspace, key, reason=str(error))
        return
    for key, (decoding, diagnosed) in job.wanted.items():
        try:
            found = evaluate_run(workspace, run, decoding, progress, split=job.split)
            diagnosis = (
                diagnose_run(workspace, run, Decoding(), progress, split=job.split, searches=False)
                if diagnosed
                else None
            )
        except UserError as error:
            _note(workspace, key, reason=str(error))
            continue
        folders = {"evaluation": found.folder.name, "diagnosis": diagnosis and diagnosis.folder.name}
        _note(workspace, key, run=run.name, description=found.description, **folders)


def _note(workspace: Workspace, key: str, **values: Any) -> None:
    artifacts.write_json(workspace.run_result(key), values)


def run_all(
    workspace: Workspace,
    jobs: list[Job],
    progress: Progress,
    *,
    count: int = 1,
    command: list[str] | None = None,
) -> None:
    """Do all jobs, in this process or in several.

    Args:
        count: how many at the same time, a process each, on a core or GPU of its own; 1 works in this process.
        command: what starts such a process, before the job's file.

    Raises:
        KeyboardInterrupt: Ctrl-C; every training's state is saved.
    """
    for key in (key for job in jobs for key in job.wanted):
        workspace.run_result(key).unlink(missing_ok=True)  # a reason of an earlier time
    if command and (
        count > 1 or len({job.plan.train.precision for job in jobs}) > 1
    ):  # Accelerate has one precision a process
        _side_by_side(workspace, jobs, count, command, progress)
        return
    for number, job in enumerate(jobs, start=1):
        progress.say(f"Run {number} of {len(jobs)}: {job.run}")
        try:
            work(workspace, job, progress)
        except Exception:  # a fault of ours costs its own cells alone, as it does in a process of its own
            log = _files_of(workspace, job)[1]
            with artifacts.atomic(log) as temporary:
                temporary.write_text(traceback.format_exc(), encoding="utf-8")
            _ended(workspace, job, 1, log, progress)


def _side_by_side(
    workspace: Workspace, jobs: list[Job], count: int, command: list[str], progress: Progress
) -> None:
    """Keep `count` processes busy. Each ends, and saves, when its standard input does: by Ctrl-C here, or if this process is killed."""
    waiting, running = list(jobs), {}
    try:
        with progress.task("Runs", total=len(jobs), unit="runs") as task:
            while waiting or running:
                for slot in [slot for slot in range(count) if slot not in running][: len(waiting)]:
                    running[slot] = _start(workspace, waiting.pop(0), slot, count, command)
                    progress.say(f"Started {running[slot][0].run} ({running[slot][2]}).")
                time.sleep(POLL_SECONDS)
                for slot, (job, process, log) in [*running.items()]:
                    if process.poll() is not None:
                        del running[slot]
                        _ended(workspace, job, process.returncode, log, progress)
                        task.advance()
    finally:
        for _, process, _ in running.values():
            process.stdin.close()
        for _, process, _ in running.values():
            process.wait()


def _start(
    workspace: Workspace, job: Job, slot: int, count: int, command: list[str]
) -> tuple[Job, Any, Path]:
    path, log = _files_of(workspace, job)
    artifacts.write_json(path, job.to_dict())
    environment = {**os.environ, "OMP_NUM_THREADS": str(max(1, len(os.sched_getaffinity(0)) // count))}
    if gpus := _gpus():
        environment["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
    with open(log, "ab") as out:
        process = subprocess.Popen(
            [*command, str(path)],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=out,
            env=environment,
            start_new_session=True,
        )
    return job, process, log


def _files_of(workspace: Workspace, job: Job) -> tuple[Path, Path]:
    """Where a process finds its job, and where it logs."""
    return workspace.outcomes / "jobs" / f"{job.run}.json", workspace.outcomes / "jobs" / f"{job.run}.log"


def _ended(workspace: Workspace, job: Job, code: int, log: Path, progress: Progress) -> None:
    """Say how a process ended; where it left no outcome, that is the outcome."""
    if code:
        for key in job.wanted:
            if not workspace.run_result(key).exists():
                _note(workspace, key, reason=f"It ended with exit code {code}, a fault of maskgr; see {log}.")
    progress.say(f"{job.run} is {'done' if not code else f'not done: exit code {code}, see {log}'}.")


def _gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    torch = sys.modules["torch"]
    if not torch.cuda.is_available():
        return []
    return os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(torch.cuda.device_count())))).split(
        ","
    )
