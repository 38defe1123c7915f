"""Processes that share the work of one command: rank, number of processes, locks and sums over all."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from pipelines.durable import claimed, locked, staging
from pipelines.errors import UserError

if TYPE_CHECKING:
    from accelerate import PartialState

T = TypeVar("T")


def process_state() -> PartialState:
    """Return the rank and the device of this process among those that were started together.

    The first request to Accelerate fixes the state of the whole process. All code that runs in several
    processes therefore gets the state here: without `cpu`, Accelerate 1.15 treats each of several CPU
    processes as the only one. ACCELERATE_USE_CPU, which `accelerate launch --cpu` and `maskgr … --processes`
    set, selects the CPU. A process waits for the others for up to one day; if another process fails, the
    launcher ends the waiting ones.
    """
    import torch
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    return PartialState(cpu=cpu, timeout=timedelta(days=1))


def from_first(value: T) -> T:
    """Return the first process's value in every process; all processes call this together.

    What depends on the state of files is decided in this way: on a network file system, another machine may
    see an older state of a folder for a minute.
    """
    if process_state().num_processes == 1:
        return value
    from accelerate.utils import broadcast_object_list

    values: list[T] = broadcast_object_list([value])
    return values[0]


def require_shared(folder: Path) -> None:
    """Check that the processes of all machines have the same folder; all processes call this together.

    Raises:
        UserError: A machine has another folder at this path. The message names the machines.
    """
    state = process_state()
    if state.num_processes == 1:
        return
    from accelerate.utils import gather_object

    with staging(folder) if state.is_main_process else nullcontext() as mark:
        name = from_first(mark.name if mark else "")
        has_mark = (folder / name).is_dir()
        lacking: list[str] = gather_object([] if has_mark else [socket.gethostname()])
    if lacking:
        machines = ", ".join(dict.fromkeys(lacking))
        raise UserError(
            f"{folder.absolute()} is not the same folder on every machine: {machines} cannot see what the "
            "first process writes there. Put it on a file system that all machines share."
        )


@contextmanager
def command_lock(folder: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold an exclusive lock on a folder for all processes of this command, also against other machines.

    Args:
        waiting: function that is called if another command holds the lock.
    """
    state = process_state()
    with ExitStack() as locks:
        if state.is_main_process:
            locks.enter_context(locked(folder, waiting))
            locks.enter_context(claimed(folder / ".lock", waiting))
        state.wait_for_everyone()
        yield


@dataclass(frozen=True)
class Processes:
    """One process among several.

    Attributes:
        rank: number of this process, from 0.
        count: number of processes.
        total: function that returns the sum of an array over all processes.
    """

    rank: int = 0
    count: int = 1
    total: Callable[[np.ndarray], np.ndarray] = staticmethod(lambda array: array)

    @staticmethod
    def on_cpus() -> Processes:
        """Return this process among those that were started together; sums wait for no other device.

        All processes have to call this at the same place.
        """
        import torch

        state = process_state()
        if state.num_processes == 1:
            return Processes()
        group = torch.distributed.new_group(backend="gloo", timeout=timedelta(days=1))

        def total(array: np.ndarray) -> np.ndarray:
            tensor = torch.as_tensor(array).clone()
            torch.distributed.all_reduce(tensor, group=group)
            result: np.ndarray = tensor.numpy()
            return result

        return Processes(state.process_index, state.num_processes, total)

    @staticmethod
    def started() -> Processes:
        """Return this process among those that were started together, as Accelerate counts them."""
        import torch
        from accelerate.utils import reduce

        state = process_state()

        def total(array: np.ndarray) -> np.ndarray:
            tensor = torch.as_tensor(array, device=state.device)
            result: np.ndarray = reduce(tensor, "sum").cpu().numpy()
            return result

        return (
            Processes(state.process_index, state.num_processes, total)
            if state.num_processes > 1
            else Processes()
        )
