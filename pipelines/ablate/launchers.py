"""Launchers of a grid's jobs: processes of this machine, Slurm (by submitit) or Ray.

A job is a command line; where and when it runs is the launcher's business, or that of the scheduler behind
it. Jobs need no launcher to stay apart: each one claims its run (`engine.run_job`).
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

from pipelines.durable import is_claimed
from pipelines.errors import UserError

LAUNCHERS = ("local", "slurm", "ray")
POLL_SECONDS = 0.2  # between two looks at the processes of this machine
SCHEDULER_POLL_SECONDS = 5.0  # between two questions to a scheduler of other machines


@dataclass(frozen=True)
class Task:
    """A job of a grid as a launcher sees it.

    Attributes:
        name: name of the job.
        command: command line that does the job. It saves its state and ends once its standard input ends.
        log: file that its output is added to.
        claim: file that is locked while a command of any machine works on the job.
    """

    name: str
    command: list[str]
    log: Path
    claim: Path

    def start(self, environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start the command on this machine."""
        output: IO[bytes]
        with open(self.log, "ab") as output:
            return subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )

    def __call__(self) -> int:
        """Run the command on the machine that a scheduler has chosen, and return its exit code."""
        process = self.start()
        try:
            return process.wait()
        finally:
            _end([process])

    def checkpoint(self) -> Any:
        """Return what submitit is to submit in place of a job that Slurm preempts: the same job."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


Started = Callable[[Task], None]
Ended = Generator[tuple[Task, int], None, None]  # tasks and their exit codes


class Launcher(Protocol):
    """Something that runs tasks."""

    def run(self, tasks: list[Task], started: Started) -> Ended:
        """Run all tasks, and yield each one with its exit code once it has ended.

        If the iterator is closed before, the tasks that run save their state and end.

        Args:
            tasks: the tasks.
            started: called with each task that is started or handed to a scheduler.
        """


@dataclass(frozen=True)
class LocalLauncher:
    """Processes of this machine, each with its share of the cores and with one GPU if there are any.

    Attributes:
        processes: number of processes at the same time.
    """

    processes: int = 1

    def run(self, tasks: list[Task], started: Started) -> Ended:
        """Keep the processes busy until all tasks are done; see `Launcher.run`."""
        waiting = list(tasks)
        running: dict[int, tuple[Task, subprocess.Popen[bytes]]] = {}
        try:
            while waiting or running:
                free = [slot for slot in range(self.processes) if slot not in running]
                for slot in free[: len(waiting)]:
                    task = take(waiting)
                    running[slot] = task, task.start(self._environment(slot))
                    started(task)
                time.sleep(POLL_SECONDS)
                for slot, (task, process) in [*running.items()]:
                    code = process.poll()
                    if code is not None:
                        del running[slot]
                        yield task, code
        finally:
            _end([process for _, process in running.values()])

    def _environment(self, slot: int) -> dict[str, str]:
        threads = max(1, len(os.sched_getaffinity(0)) // self.processes)
        environment = {"OMP_NUM_THREADS": str(threads)}
        if gpus := _gpus():
            environment["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
        return environment


@dataclass(frozen=True)
class SlurmLauncher:
    """A job array of Slurm, submitted by submitit.

    Attributes:
        folder: folder for submitit's files, which all machines share.
        jobs: largest number of jobs at the same time; None for no bound of ours.
        options: parameters of submitit, such as timeout_min, gpus_per_node and slurm_partition.
        cluster: "slurm", or another cluster of submitit.
    """

    folder: Path
    jobs: int | None = None
    options: dict[str, Any] = field(default_factory=dict)
    cluster: str = "slurm"

    def run(self, tasks: list[Task], started: Started) -> Ended:
        """Submit all tasks, and wait for them; see `Launcher.run`.

        Raises:
            UserError: submitit is not installed, there is no Slurm, or it refuses the jobs.
        """
        submitit = _required("submitit", "slurm")
        try:
            executor = submitit.AutoExecutor(folder=str(self.folder), cluster=self.cluster)
            bound = {"slurm_array_parallelism": self.jobs} if self.jobs else {}
            executor.update_parameters(name="maskgr", **bound, **self.options)
            with executor.batch():
                submitted = [executor.submit(task) for task in tasks]
        except (RuntimeError, TypeError, ValueError, NameError, submitit.core.utils.FailedJobError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UserError(
                f"--launcher slurm: {reason.rstrip('.?')}. Look at --launcher-options, and at sinfo here."
            ) from None
        waiting = dict(zip(submitted, tasks, strict=True))
        try:
            for task in tasks:
                started(task)
            while waiting:
                for job in [job for job in waiting if job.done()]:
                    task = waiting.pop(job)
                    yield task, 1 if job.exception() else job.result()
                if waiting:
                    time.sleep(POLL_SECONDS if self.cluster != "slurm" else SCHEDULER_POLL_SECONDS)
        finally:
            for job in waiting:
                job.cancel(check=False)


@dataclass(frozen=True)
class RayLauncher:
    """Tasks of a Ray cluster: that of the environment variable RAY_ADDRESS, else one on this machine alone.

    Attributes:
        jobs: largest number of tasks at the same time; None for no bound of ours.
        options: options of `ray.remote`, such as num_cpus and num_gpus.
    """

    jobs: int | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def run(self, tasks: list[Task], started: Started) -> Ended:
        """Submit all tasks, and wait for them; see `Launcher.run`.

        Raises:
            UserError: Ray is not installed, there is no cluster at RAY_ADDRESS, or Ray refuses the options.
        """
        ray = _required("ray", "ray")
        waiting = list(tasks)
        running: dict[Any, Task] = {}
        try:
            ray.init(ignore_reinit_error=True, log_to_driver=False, include_dashboard=False)
            remote = ray.remote(**{"num_cpus": 1, **self.options})(Task.__call__)
        except (ConnectionError, TypeError, ValueError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UserError(
                f"--launcher ray: {reason.rstrip('.?')}. Look at --launcher-options and RAY_ADDRESS."
            ) from None
        try:
            while waiting or running:
                while waiting and (self.jobs is None or len(running) < self.jobs):
                    task = take(waiting)
                    running[remote.remote(task)] = task
                    started(task)
                for done in ray.wait([*running], num_returns=1)[0]:
                    task = running.pop(done)
                    try:
                        code = ray.get(done)
                    except ray.exceptions.RayError:  # its machine is gone, and Ray has given up
                        code = 1
                    yield task, code
        finally:
            for reference in running:
                ray.cancel(reference)
            ray.shutdown()


def launcher_of(kind: str, jobs: int | None, options: dict[str, Any], folder: Path) -> Launcher:
    """Return the launcher of a name in `LAUNCHERS`.

    Args:
        kind: the name.
        jobs: largest number of jobs at the same time; None for the launcher's default.
        options: options of the scheduler.
        folder: folder for files of the scheduler, which all machines share.

    Raises:
        UserError: the scheduler's package is not installed, or options are given for processes of this
            machine.
    """
    if kind == "slurm":
        _required("submitit", "slurm")
        return SlurmLauncher(folder, jobs, options)
    if kind == "ray":
        _required("ray", "ray")
        return RayLauncher(jobs, options)
    if options:
        raise UserError("--launcher-options are options of a scheduler. Give --launcher slurm or ray too.")
    return LocalLauncher(jobs or 1)


def take(waiting: list[Task]) -> Task:
    """Remove and return the first task that no command works on, else the first one."""
    free = (number for number, task in enumerate(waiting) if not is_claimed(task.claim))
    return waiting.pop(next(free, 0))


def _required(package: str, extra: str) -> Any:
    """Import the package of a scheduler.

    Raises:
        UserError: it is not installed.
    """
    try:
        return __import__(package)
    except ImportError:
        raise UserError(
            f"--launcher {extra} needs the package {package}. Install it with: pip install 'maskgr[{extra}]'"
        ) from None


def _end(processes: list[subprocess.Popen[bytes]]) -> None:
    """Let processes save and end, and wait for them."""
    for process in processes:
        if process.stdin:
            process.stdin.close()
    for process in processes:
        process.wait()


def _gpus() -> list[str]:
    """Return the GPUs that this process may use, in the notation of CUDA_VISIBLE_DEVICES."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    every = ",".join(map(str, range(torch.cuda.device_count())))
    return os.environ.get("CUDA_VISIBLE_DEVICES", every).split(",")
