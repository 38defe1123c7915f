"""One command as several processes: `--gpus N` and `--processes N`.

The elastic agent of torch.distributed starts the processes. `accelerate launch` uses the same agent for
several GPUs; its `--cpu` mode starts a single process unless MPI is installed (accelerate 1.15). Accelerate
finds the rank and the other processes by itself. torchrun starts the processes of several machines
(docs/machines.md); they find each other by the environment that it sets.

The agent runs inside the process that the user started, so it prints nothing. Each process writes its error
message to a file, so that the user reads one error instead of one per process and a traceback. The processes
end when the agent's process ends, even if it is killed.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from maskgr_cli import console
from pipelines.durable import staging
from pipelines.errors import UserError
from pipelines.orphans import PARENT
from pipelines.progress import Progress, Silent
from pipelines.workspace import Workspace

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

WORKER = "LOCAL_RANK"  # environment variable of every process that a launcher started
MPI = {"PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE"}  # of processes that MPI started
USE_CPU = "ACCELERATE_USE_CPU"
GIB_PER_PROCESS = 0.5  # PyTorch, the data set and the smallest model
SHARED = ("embed", "tokenize", "train", "eval", "recommend")  # commands that several processes may run

T = TypeVar("T")


def check_launcher(command: str | None) -> None:
    """Refuse what a launcher of several processes cannot do with a command.

    Args:
        command: name of the command.

    Raises:
        UserError: `accelerate launch --cpu` was to start several processes and started one, or the command
            does all its work in one process.
    """
    environment = os.environ
    if command in SHARED and not is_worker():
        # Accelerate's launcher of a single process sets an address for the others, which MPI would start.
        others = {"ACCELERATE_DYNAMO_BACKEND", "MASTER_ADDR", "MASTER_PORT"} <= environment.keys()
        if others and not MPI & environment.keys():
            raise UserError(
                "accelerate launch --cpu started one process where several were requested; without MPI it "
                f"cannot start more. Type: maskgr {command} --processes N …, or: torchrun --nproc-per-node N "
                f"-m maskgr_cli {command} …"
            )
    if command and command not in SHARED and int(environment.get("WORLD_SIZE", "1")) > 1:
        raise UserError(
            f"maskgr {command} runs in one process, and {environment['WORLD_SIZE']} were started. Start it "
            f"without a launcher; {', '.join(SHARED)} are commands that several processes share."
        )


def find_workspace(option: Path | None) -> Workspace:
    """Return the workspace of a command that several processes share, see `Workspace.find`.

    Raises:
        UserError: The folder cannot be used, or the machines of the processes do not share it.
    """
    workspace = Workspace.find(option)
    if is_worker():
        from pipelines.processes import require_shared

        require_shared(workspace.root)
    return workspace


def by_first(work: Callable[[], T]) -> T:
    """Do some work in the first process, and return its result in all of them.

    Raises:
        UserError: The work failed because of the user's input.
        SystemExit: It failed so in the first process, which says why; the others end with the same code.
    """
    if not is_worker():
        return work()
    from pipelines.processes import from_first, process_state

    failure: UserError | None = None
    result: T | None = None
    if process_state().is_main_process:
        try:
            result = work()
        except UserError as error:
            failure = error
    result, failed = from_first((result, failure is not None))
    if failure:
        raise failure
    if failed:
        sys.exit(2)
    return result  # type: ignore[return-value]  # the first process has done the work


def relaunch(gpus: int | None, processes: int | None) -> bool:
    """Run this command line (`sys.argv`) as several processes if requested, and wait for them.

    Args:
        gpus: number of processes with one GPU each; 1 restricts this process to one GPU, 0 to the CPU.
        processes: number of processes on the CPU.

    Returns:
        True if the command ran to its end. False if the caller must run it, because one process suffices or
        this process already is one of several; then the environment shows torch only the requested devices.

    Raises:
        UserError: Both arguments are given, or one of them to a process that another launcher started; the
            GPUs, cores or memory do not suffice; or a process failed because of the user's input.
        KeyboardInterrupt: The user pressed Ctrl-C. The processes received it too and have ended; they have 30
            seconds to save.
        SystemExit: A process failed for another reason; the exit code is that of the process.
    """
    if gpus is None and processes is None:
        return False
    if is_worker():
        if console.WORKER_ERRORS not in os.environ:
            raise UserError(
                "--gpus and --processes start processes, and a launcher has started them already. Leave the "
                "options out."
            )
        return False
    if gpus is not None and processes is not None:
        raise UserError("--gpus and --processes exclude each other: --processes is for the CPU.")
    require_gpus(gpus)
    require_cores("--processes", processes)
    if not gpus:
        os.environ[USE_CPU] = "true"
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    count = gpus or processes or 1
    if count == 1:
        if gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
        return False
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    with staging(Path(tempfile.gettempdir())) as folder:
        _run(count, folder)
    return True


def is_worker() -> bool:
    """Return True if a launcher started this process as one of several."""
    return WORKER in os.environ


def is_first() -> bool:
    """Return True if this process is the only one or the first of several, which alone prints."""
    return not is_worker() or os.environ.get("RANK", "0") == "0"


def progress() -> Progress:
    """Return the terminal's progress display for the first process, a silent one for the others."""
    return console.RichProgress() if is_first() else Silent()


def job_command(root: Workspace) -> list[str]:
    """Return the command that does a job in a process of its own; the path of the job's file follows it."""
    return [sys.executable, "-m", "maskgr_cli", "ablate", "--workspace", str(root.root.absolute()), "--job"]


def require_gpus(gpus: int | None) -> None:
    """Refuse more GPUs than PyTorch sees, before any work begins.

    Raises:
        UserError: There are fewer GPUs.
    """
    if not gpus:
        return
    import torch

    available = torch.cuda.device_count()
    if available < gpus:
        advice = f"Run with --gpus {available}, or" if available else "Run"
        plural = "" if available == 1 else "s"
        raise UserError(
            f"--gpus {gpus}: PyTorch sees {available} GPU{plural} on this machine. "
            f"{advice} without --gpus to use the CPU."
        )


def require_cores(option: str, count: int | None) -> None:
    """Refuse more processes than the machine has cores or memory for; two are always allowed.

    Args:
        option: option that requests the processes, for the message.
        count: number of processes.

    Raises:
        UserError: There are too many processes. The message names their number, the cores and the memory.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    most = max(2, min(cores, int(memory / GIB_PER_PROCESS)))
    if count and count > most:
        raise UserError(
            f"{option} {count}: this machine has {cores} core{'s' * (cores != 1)} and {memory:.0f} GiB of "
            f"memory; a process takes a core and {GIB_PER_PROCESS} GiB or more. Use {most} or fewer."
        )


def _run(count: int, folder: Path) -> None:
    """Start `count` processes of this command line and wait for them.

    Args:
        count: number of processes.
        folder: folder for their error messages and the agent's files.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.environ |= {console.WORKER_ERRORS: str(folder), PARENT: str(os.getpid())}
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=folder.name,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=str(folder)),
    )
    logging.disable(logging.CRITICAL)
    failures: dict[int, ProcessFailure] = {}
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        elastic_launch(config, sys.executable)("-m", "maskgr_cli", *sys.argv[1:])
    except ChildFailedError as error:
        failures = error.failures
    except SignalException as error:
        if error.sigval == signal.SIGINT:
            raise KeyboardInterrupt from None
        sys.exit(128 + error.sigval)
    finally:
        for number, handler in handlers.items():  # the agent has replaced them
            signal.signal(number, handler)
        del os.environ[console.WORKER_ERRORS], os.environ[PARENT]
        logging.disable(logging.NOTSET)
    if failures:
        _raise(failures, folder, count)


def _raise(failures: dict[int, ProcessFailure], folder: Path, count: int) -> None:
    """Raise the first user error of the processes, else the first of all failures."""
    rank, failure = min(failures.items(), key=lambda pair: (pair[1].exitcode != 2, pair[1].timestamp))
    message = folder / str(rank)
    if failure.exitcode == -signal.SIGKILL:
        raise UserError(
            f"Process {rank + 1} of {count} was killed, most likely because the memory was exhausted. "
            "Use fewer processes or smaller batches."
        )
    if failure.exitcode == 2 and message.exists():
        raise UserError(message.read_text(encoding="utf-8"))
    default = f"Process {rank + 1} of {count} ended with exit code {failure.exitcode}."
    console.error(message.read_text(encoding="utf-8") if message.exists() else default)
    sys.exit(failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode)
