"""Several processes that share one command's work: who this one is, and sums over all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipelines.durable import locked

if TYPE_CHECKING:
    from accelerate import PartialState


def process_state() -> PartialState:
    """This process among those that were started together, and its device.

    Whoever asks Accelerate first decides for the whole process, so everything that runs in several asks here:
    without `cpu`, Accelerate 1.15 takes each of several processes on the CPU for the only one.
    ACCELERATE_USE_CPU (set by `accelerate launch --cpu` and `maskgr … --processes`) keeps it off the GPUs. Whoever
    waits for the others waits up to a day: a launcher ends those that would wait in vain.
    """
    import torch
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    return PartialState(cpu=cpu, timeout=timedelta(days=1))


@contextmanager
def turn(folder: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Have a folder to the processes of this command; `waiting` is called where they must wait for another command's."""
    state = process_state()
    with locked(folder, waiting) if state.is_main_process else nullcontext():
        state.wait_for_everyone()
        yield


@dataclass(frozen=True)
class Processes:
    """This process among several: its number, how many there are, and the sum of an array over all of them."""

    rank: int = 0
    count: int = 1
    total: Callable[[np.ndarray], np.ndarray] = staticmethod(lambda array: array)

    @staticmethod
    def started() -> Processes:
        """The processes that were started together, as Accelerate knows them."""
        import torch
        from accelerate.utils import reduce

        state = process_state()

        def total(array: np.ndarray) -> np.ndarray:
            return reduce(torch.as_tensor(array, device=state.device), "sum").cpu().numpy()

        return (
            Processes(state.process_index, state.num_processes, total)
            if state.num_processes > 1
            else Processes()
        )
