"""Running one command as several processes: `--gpus N` and `--processes N`.

The processes are started by torch.distributed's elastic agent, which is what `accelerate launch` uses for several
GPUs (its `--cpu` mode starts a single process unless there is MPI, as of accelerate 1.15); in them Accelerate finds
its rank and the others by itself. The agent runs inside the process the person started, so it has no output of its
own, and each process's error goes through a file: a person reads one error, not one per process and a traceback. The processes end
with the agent's, even where that is killed.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from maskgr_cli import console
from pipelines.durable import staging
from pipelines.errors import UserError
from pipelines.orphans import PARENT
from pipelines.progress import Progress, Silent

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

WORKER = "LOCAL_RANK"  # set in every process that a launcher started
USE_CPU = "ACCELERATE_USE_CPU"
GIB_OF_A_PROCESS = 0.5  # PyTorch, the data set and the smallest model


def relaunch(gpus: int | None, processes: int | None) -> bool:
    """Run this command line (`sys.argv`) as several processes where that is asked for, and wait for them.

    Args:
        gpus: this many processes with a GPU each; 1 keeps to a single GPU, 0 to the CPU.
        processes: this many processes on the CPU.

    Returns:
        True if it ran the command to its end; False if the caller should: one process is enough, or this already
        is one of several. What False leaves behind is an environment in which torch sees what was asked for.

    Raises:
        UserError: both are given, there are too few GPUs, cores or too little memory, or a process failed by the user's input.
        KeyboardInterrupt: Ctrl-C, after the processes got it too and ended (they have 30 seconds to save).
        SystemExit: a process failed otherwise, with its exit code.
    """
    if is_worker() or (gpus is None and processes is None):
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
    """Whether a launcher started this process, as one of several."""
    return WORKER in os.environ


def is_first() -> bool:
    """Whether this process is the one that speaks: the only one, or the first of several."""
    return os.environ.get("RANK", "0") == "0"


def progress() -> Progress:
    """The terminal for the first process; nobody for the others."""
    return console.RichProgress() if is_first() else Silent()


def require_gpus(gpus: int | None) -> None:
    """Refuse at once what `relaunch` would refuse after other work.

    Raises:
        UserError: more GPUs than PyTorch sees.
    """
    if not gpus:
        return
    import torch

    found = torch.cuda.device_count()
    if found < gpus:
        way = f"Run with --gpus {found}, or" if found else "Run"
        plural = "" if found == 1 else "s"
        raise UserError(
            f"--gpus {gpus}: PyTorch sees {found} GPU{plural} on this machine. {way} without --gpus to use the CPU."
        )


def require_cores(option: str, count: int | None) -> None:
    """Refuse at once more processes than there are cores (two may always be tried), or than the memory holds.

    Raises:
        UserError: naming what was asked for and what there is.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    most = max(2, min(cores, int(memory / GIB_OF_A_PROCESS)))
    if count and count > most:
        raise UserError(
            f"{option} {count}: this machine has {cores} core{'s' * (cores != 1)} and {memory:.0f} GiB of memory; a process takes a core "
            f"and {GIB_OF_A_PROCESS} GiB or more. Use {most} or fewer."
        )


def _run(count: int, folder: Path) -> None:
    """Start `count` processes of this command line and wait; their errors and the agent's files go to `folder`."""
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
    failures, handlers = {}, {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        elastic_launch(config, sys.executable)("-m", "maskgr_cli", *sys.argv[1:])
    except ChildFailedError as error:
        failures = error.failures
    except SignalException as error:
        if error.sigval == signal.SIGINT:
            raise KeyboardInterrupt from None
        sys.exit(128 + error.sigval)
    finally:
        for number, handler in handlers.items():  # the agent has set its own
            signal.signal(number, handler)
        del os.environ[console.WORKER_ERRORS], os.environ[PARENT]
        logging.disable(logging.NOTSET)
    if failures:
        _raise(failures, folder, count)


def _raise(failures: dict[int, ProcessFailure], folder: Path, count: int) -> None:
    """Fail as the processes did: by the first user error, else by the first of all failures."""
    rank, failure = min(failures.items(), key=lambda pair: (pair[1].exitcode != 2, pair[1].timestamp))
    written = folder / str(rank)
    if failure.exitcode == -signal.SIGKILL:
        raise UserError(
            f"Process {rank + 1} of {count} was killed, most likely for want of memory. Use fewer processes or smaller batches."
        )
    if failure.exitcode == 2 and written.exists():
        raise UserError(written.read_text(encoding="utf-8"))
    ended = f"Process {rank + 1} of {count} ended with exit code {failure.exitcode}."
    console.error(written.read_text(encoding="utf-8") if written.exists() else ended)
    sys.exit(failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode)
