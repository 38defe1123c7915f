"""Memory of a training step on the CPU: the estimate that `maskgr train` prints, against the largest sum of
the bytes of all tensors.

What lies inside an operation for its own time does not count, nor do pages that an allocator keeps.
"""

from __future__ import annotations

import argparse
import gc
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks import training
from benchmarks.common import require_beauty, save
from maskgr_cli import console
from pipelines import artifacts
from pipelines.train.loop import Trainer
from pipelines.train.memory import estimate

SETTINGS: dict[str, dict[str, Any]] = {
    "small": {},
    "small, 8,192 tokens a pass": {"micro_tokens": 8192},
    "small, 1,024 negatives": {"negatives": 1024, "repeat_bias": False},
    "small, width 256, MLP 1,024": {"width": 256, "mlp": 1024},
    "small, digit likelihood": {"likelihood": "digit", "repeat_bias": False},
    "paper": {"batch_size": 512},
}


class Peak(TorchDispatchMode):
    """Counts the bytes of all tensors that operations inside it make, as long as they live.

    Attributes:
        live: bytes now.
        most: largest number of bytes so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.most = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(result):
            if isinstance(tensor, Tensor):
                for part in (tensor._indices(), tensor._values()) if tensor.is_sparse else (tensor,):
                    self._count(part.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._known:
            return
        size = storage.nbytes()
        self._known.add(key)
        self.live += size
        self.most = max(self.most, self.live)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size


def measured(trainer: Trainer, steps: int = 2) -> int:
    """Return the largest sum of the bytes of all tensors in some training steps.

    Args:
        trainer: of a model whose steps are measured; it must not have made a step.
        steps: number of steps.
    """
    model = trainer.unwrapped_model
    held = sum(t.untyped_storage().nbytes() for t in (*model.parameters(), *model.buffers()))
    drawn = trainer.batches.steps(0)
    with Peak() as peak:
        for _ in range(steps):
            trainer.training_step(*next(drawn))
    gc.collect()
    return held + peak.most


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--save", action="store_true", help="write the figures to results/memory.json")
    options = parser.parse_args()
    require_beauty()
    figures: dict[str, dict[str, float]] = {}
    for name in options.only:
        trainer = training.trainer(name.split(",")[0], **SETTINGS[name])
        estimated = estimate(trainer)
        figures[name] = {
            "estimated MiB": estimated.total / 2**20,
            "measured MiB": measured(trainer) / 2**20,
            "activations, estimated MiB": estimated.activations / 2**20,
        }
        del trainer
    rows = [(name, *(f"{value:,.0f}" for value in values.values())) for name, values in figures.items()]
    headers = ["", "estimated MiB", "measured MiB", "activations, estimated MiB"]
    console.table("Memory of a training step", headers, rows, artifacts.machine())
    if options.save:
        save("memory", {"figures": figures})


if __name__ == "__main__":
    main()
