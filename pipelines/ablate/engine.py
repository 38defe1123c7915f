"""Execution of a grid: each run is trained once and evaluated, in this process or where a launcher starts it.

A job claims its run while it works on it. Of several commands that do the same grid, on any machines that
share the workspace, one therefore does each job, and another takes a job over if its process is killed. Runs
and evaluations are stored like those of `maskgr train` and `maskgr eval`. The module `state` stores the
result of each cell.
"""

from __future__ import annotations

import dataclasses
import traceback
from contextlib import closing
from pathlib import Path

from pipelines import artifacts
from pipelines.ablate.job import Job, claim_file, job_files
from pipelines.ablate.launchers import Launcher, Task
from pipelines.ablate.planning import PlannedRun
from pipelines.ablate.state import DONE, RunResultFile, run_result, write_result
from pipelines.durable import atomic, claimed, is_claimed
from pipelines.errors import TrainingDiverged, UserError
from pipelines.evaluate.config import EvalConfig
from pipelines.evaluate.diagnose import Diagnosis, diagnose_run
from pipelines.evaluate.run import evaluate_run
from pipelines.progress import Progress
from pipelines.train.existing import Existing
from pipelines.train.plan import Plan
from pipelines.train.run import train_run
from pipelines.workspace import Run, Workspace

STOPPED = (130, 143)  # exit codes of a process that a signal stopped, after it saved


def expected_minutes(runs: list[Run], plan: Plan) -> float | None:
    """Estimate the duration of a training in minutes.

    The estimate is the bound on its minutes, or the duration of its steps at the speed of an earlier run of
    the same data set, model and batch size, whichever is shorter.

    Args:
        runs: runs of the workspace, oldest first; the newest run that is alike counts.
        plan: plan of the training.

    Returns:
        Minutes, or None if neither is known.

    Raises:
        UserError: the configuration of a run is damaged.
    """
    estimates = [plan.train.minutes] if plan.train.minutes else []
    if plan.train.steps:
        requested = plan.to_dict()
        for run in reversed(runs):
            if not run.has_supported_format:
                continue
            config = run.read_config()
            same_model = all(
                config.get(key) == requested[key] for key in ("dataset", "model", "model_settings")
            )
            if not (same_model and config.get("steps") and config.get("seconds")):
                continue
            if config["train"].get("batch_size") == plan.train.batch_size:
                estimates.append(plan.train.steps * config["seconds"] / config["steps"] / 60)
                break
    return min(estimates, default=None)


def jobs_of(workspace: Workspace, planned_runs: list[PlannedRun], split: str) -> list[Job]:
    """Return the remaining work: one job for each run, in the order of the cells.

    A cell that failed before is tried again.
    """
    jobs: dict[str, Job] = {}
    for planned in planned_runs:
        decoding = planned.cell.decoding
        if planned.plan is None or not planned.key or decoding is None:
            continue
        if run_result(workspace, planned).state == DONE:
            continue
        job = jobs.setdefault(planned.run, Job(planned.run, planned.plan, split, {}))
        job.evaluations[planned.key] = (decoding, planned.cell.diagnosed)
    return list(jobs.values())


def run_job(workspace: Workspace, job: Job, progress: Progress) -> None:
    """Train a run, or continue its training, and evaluate it; nothing is left if another command has done it.

    An error in the user's input and a training that diverges are recorded as results.

    Raises:
        KeyboardInterrupt: the user pressed Ctrl-C; the state of the training is saved.
    """
    waiting = f"Waiting for another command that works on {job.run}."
    with claimed(claim_file(workspace, job), lambda: progress.say(waiting)):
        left = {
            key: evaluation
            for key, evaluation in job.evaluations.items()
            if not workspace.run_result(key).exists()
        }
        if left or not job.evaluations:
            _do(workspace, dataclasses.replace(job, evaluations=left), progress)
        else:
            progress.say(f"{job.run} was done by another command.")


def _do(workspace: Workspace, job: Job, progress: Progress) -> None:
    """Train a run, or continue its training, and evaluate it; see `run_job`."""
    try:
        existing: Existing = "replace" if job.anew else "resume"
        run = train_run(workspace, job.plan, progress, name=job.run, existing=existing)
    except (UserError, TrainingDiverged) as error:
        progress.say(str(error))
        for key in job.evaluations:
            write_result(workspace, key, {"reason": str(error)})
        return
    for key, (decoding, diagnosed) in job.evaluations.items():
        try:
            evaluation = evaluate_run(workspace, run, EvalConfig(decoding, job.split), progress)
        except UserError as error:
            write_result(workspace, key, {"reason": str(error)})
            continue
        diagnosis = _diagnosis(workspace, run, job.split, progress) if diagnosed else None
        result: RunResultFile = {
            "run": run.name,
            "description": evaluation.description,
            "evaluation": evaluation.folder.name,
            "diagnosis": diagnosis.folder.name if diagnosis else None,
        }
        write_result(workspace, key, result)


def _diagnosis(workspace: Workspace, run: Run, split: str, progress: Progress) -> Diagnosis | None:
    """Diagnose a run; None, and a message, if it has nothing to diagnose, such as an item softmax. Its other
    figures stay.
    """
    try:
        return diagnose_run(workspace, run, EvalConfig(split=split), progress, searches=False)
    except UserError as error:
        progress.say(f"{run.name} is not diagnosed: {error}")
        return None


def run_all(
    workspace: Workspace,
    jobs: list[Job],
    progress: Progress,
    *,
    launcher: Launcher | None = None,
    command: list[str] | None = None,
) -> None:
    """Do all jobs, in this process or in processes of their own; last those that another command works on.

    Args:
        workspace: workspace of the runs.
        jobs: jobs in the order in which they are started.
        progress: listener.
        launcher: starts the processes; None for this process.
        command: command that does a job in a process; the path of the job's file is its last argument.

    Raises:
        UserError: the launcher's scheduler is missing or refuses the jobs.
        KeyboardInterrupt: the user pressed Ctrl-C; the state of every training is saved.
    """
    for key in (key for job in jobs for key in job.evaluations):
        workspace.run_result(key).unlink(missing_ok=True)  # it may hold the reason of an earlier failure
    if launcher and command:
        if jobs:
            _launch(workspace, jobs, launcher, command, progress)
        return
    waiting = list(jobs)
    for number in range(1, len(jobs) + 1):
        free = (place for place, job in enumerate(waiting) if not is_claimed(claim_file(workspace, job)))
        job = waiting.pop(next(free, 0))
        progress.say(f"Run {number} of {len(jobs)}: {job.run}")
        try:
            run_job(workspace, job, progress)
        except Exception:  # a fault of maskgr must not affect other runs, as in separate processes
            log = job_files(workspace, job)[1]
            with atomic(log) as temporary:
                temporary.write_text(traceback.format_exc(), encoding="utf-8")
            _finish(workspace, job, 1, log, progress)


def _launch(
    workspace: Workspace, jobs: list[Job], launcher: Launcher, command: list[str], progress: Progress
) -> None:
    """Do all jobs in processes of their own, where the launcher starts them."""
    by_name = {job.run: job for job in jobs}
    tasks = []
    for job in jobs:
        file, log = (path.absolute() for path in job_files(workspace, job))
        artifacts.write_json(file, job.to_dict())
        tasks.append(Task(job.run, [*command, str(file)], log, claim_file(workspace, job)))
    ended = launcher.run(tasks, lambda task: progress.say(f"Started {task.name} ({task.log})."))
    with progress.task("Runs", total=len(jobs), unit="runs") as bar, closing(ended):
        for task, code in ended:
            _finish(workspace, by_name[task.name], code, task.log, progress)
            bar.advance()


def _finish(workspace: Workspace, job: Job, code: int, log: Path, progress: Progress) -> None:
    """Report the exit code of a job; if the job failed, record this for each cell that has no result."""
    if code in STOPPED:
        progress.say(f"{job.run} was stopped; the same command continues it.")
        return
    if code:
        reason = f"It ended with exit code {code}, a fault of maskgr; see {log}."
        for key in job.evaluations:
            if not workspace.run_result(key).exists():
                write_result(workspace, key, {"reason": reason})
    progress.say(f"{job.run} is {'done' if not code else f'not done: exit code {code}, see {log}'}.")
