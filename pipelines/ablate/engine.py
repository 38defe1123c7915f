"""Execution of a grid: each run is trained once and evaluated, in this process or in several processes.

Runs and evaluations are stored like those of `maskgr train` and `maskgr eval`. The module `state` stores the
result of each cell.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import NamedTuple

from pipelines import artifacts
from pipelines.ablate.job import Job, job_files
from pipelines.ablate.planning import PlannedRun
from pipelines.ablate.state import DONE, RunResultFile, run_result, write_result
from pipelines.durable import atomic
from pipelines.errors import TrainingDiverged, UserError
from pipelines.evaluate.config import EvalConfig
from pipelines.evaluate.diagnose import diagnose_run
from pipelines.evaluate.run import evaluate_run
from pipelines.progress import Progress
from pipelines.train.plan import Plan
from pipelines.train.run import train_run
from pipelines.workspace import Run, Workspace

POLL_SECONDS = 0.2


class _RunningJob(NamedTuple):
    """A job, the process that works on it, and the log of the process."""

    job: Job
    process: subprocess.Popen[bytes]
    log: Path


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
    """Train a run, or continue its training, and evaluate it.

    An error in the user's input and a training that diverges are recorded as results.

    Raises:
        KeyboardInterrupt: the user pressed Ctrl-C; the state of the training is saved.
    """
    try:
        run = train_run(workspace, job.plan, progress, name=job.run, existing="resume")
    except (UserError, TrainingDiverged) as error:
        for key in job.evaluations:
            write_result(workspace, key, {"reason": str(error)})
        return
    for key, (decoding, diagnosed) in job.evaluations.items():
        try:
            evaluation = evaluate_run(workspace, run, EvalConfig(decoding, job.split), progress)
            diagnosis = (
                diagnose_run(workspace, run, EvalConfig(split=job.split), progress, searches=False)
                if diagnosed
                else None
            )
        except UserError as error:
            write_result(workspace, key, {"reason": str(error)})
            continue
        result: RunResultFile = {
            "run": run.name,
            "description": evaluation.description,
            "evaluation": evaluation.folder.name,
            "diagnosis": diagnosis.folder.name if diagnosis else None,
        }
        write_result(workspace, key, result)


def run_all(
    workspace: Workspace,
    jobs: list[Job],
    progress: Progress,
    *,
    processes: int = 1,
    command: list[str] | None = None,
) -> None:
    """Do all jobs, in this process or in several processes.

    Accelerate has one precision per process. Jobs of several precisions therefore run in processes of their
    own.

    Args:
        workspace: workspace of the runs.
        jobs: jobs in the order in which they are started.
        progress: listener.
        processes: number of processes at the same time, each on a core or GPU of its own; 1 works in this
            process.
        command: command that starts such a process; the path of the job's file is its last argument. If None,
            all jobs are done in this process.

    Raises:
        KeyboardInterrupt: the user pressed Ctrl-C; the state of every training is saved.
    """
    for key in (key for job in jobs for key in job.evaluations):
        workspace.run_result(key).unlink(missing_ok=True)  # it may hold the reason of an earlier failure
    precisions = {job.plan.train.precision for job in jobs}
    if command and (processes > 1 or len(precisions) > 1):
        _run_in_processes(workspace, jobs, processes, command, progress)
        return
    for number, job in enumerate(jobs, start=1):
        progress.say(f"Run {number} of {len(jobs)}: {job.run}")
        try:
            run_job(workspace, job, progress)
        except Exception:  # a fault of maskgr must not affect other runs, as in separate processes
            log = job_files(workspace, job)[1]
            with atomic(log) as temporary:
                temporary.write_text(traceback.format_exc(), encoding="utf-8")
            _finish(workspace, job, 1, log, progress)


def _run_in_processes(
    workspace: Workspace, jobs: list[Job], processes: int, command: list[str], progress: Progress
) -> None:
    """Keep several processes busy until all jobs are done.

    Each process saves its state and ends when its standard input ends. It ends on Ctrl-C, and if this process
    is killed.
    """
    waiting = list(jobs)
    running: dict[int, _RunningJob] = {}
    try:
        with progress.task("Runs", total=len(jobs), unit="runs") as task:
            while waiting or running:
                free = [slot for slot in range(processes) if slot not in running]
                for slot in free[: len(waiting)]:
                    running[slot] = _start_process(workspace, waiting.pop(0), slot, processes, command)
                    progress.say(f"Started {running[slot].job.run} ({running[slot].log}).")
                time.sleep(POLL_SECONDS)
                for slot, (job, process, log) in [*running.items()]:
                    code = process.poll()
                    if code is not None:
                        del running[slot]
                        _finish(workspace, job, code, log, progress)
                        task.advance()
    finally:
        for _, process, _ in running.values():
            if process.stdin:
                process.stdin.close()
        for _, process, _ in running.values():
            process.wait()


def _start_process(
    workspace: Workspace, job: Job, slot: int, processes: int, command: list[str]
) -> _RunningJob:
    path, log = job_files(workspace, job)
    artifacts.write_json(path, job.to_dict())
    threads = max(1, len(os.sched_getaffinity(0)) // processes)
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    if gpus := _gpus():
        environment["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
    with open(log, "ab") as output:
        process = subprocess.Popen(
            [*command, str(path)],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,
        )
    return _RunningJob(job, process, log)


def _finish(workspace: Workspace, job: Job, code: int, log: Path, progress: Progress) -> None:
    """Report the exit code of a job; if the job failed, record this for each cell that has no result."""
    if code:
        reason = f"It ended with exit code {code}, a fault of maskgr; see {log}."
        for key in job.evaluations:
            if not workspace.run_result(key).exists():
                write_result(workspace, key, {"reason": reason})
    progress.say(f"{job.run} is {'done' if not code else f'not done: exit code {code}, see {log}'}.")


def _gpus() -> list[str]:
    """Return the GPUs that this process may use, in the notation of CUDA_VISIBLE_DEVICES."""
    torch = sys.modules["torch"]
    if not torch.cuda.is_available():
        return []
    every = ",".join(map(str, range(torch.cuda.device_count())))
    return os.environ.get("CUDA_VISIBLE_DEVICES", every).split(",")
