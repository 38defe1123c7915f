"""Model of training on several GPUs: where the exchange of gradients takes longer than the computation.

This is a calculation, not a measurement of GPUs. Measured are, on this machine: the bytes of the gradients of
the real models, the floating-point operations of one of their training steps (PyTorch's counter), and the
seconds of that step on this processor. Assumed are the rate at which a GPU computes (`--tflops`), the
shortest step (`--floor`: kernels are started one after another, however small they are), and the rates of the
links (`LINKS`).

- A table of the items has a row for each item. Its gradient is dense (all rows) or sparse (the rows that a
  step touches).
- Dense gradients are summed by a ring all-reduce: each process sends 2 (n − 1) / n · bytes (Patarasuk and
  Yuan, Bandwidth optimal all-reduce algorithms for clusters of workstations, 2009).
- Sparse rows are gathered: each process receives (n − 1) · rows · (4 · width + 8) bytes, where the rows are
  the distinct items of its share of the batch, and the negatives.
- The batch is the preset's, whatever the number of GPUs, so each computes 1 / n of a step, but not in less
  than the shortest step. Latency is left out. Communication dominates where it takes longer than computation.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.catalogue import CODES, random_sids
from benchmarks.common import build_maskgr, save
from maskgr_cli import console
from maskgr_cli.allocator import keep_freed_memory
from pipelines.data.catalogue import Catalogue
from pipelines.data.sequences import Sequences
from pipelines.models.sid_models.maskgr import MaskGR
from pipelines.train.batches import Batches
from pipelines.train.configure import configure
from pipelines.train.loop import Trainer

ITEMS = {"12 thousand": 12_101, "1 million": 1_000_000, "10 million": 10_000_000}
# A loss whose work does not depend on the number of items.
SAMPLED: dict[str, Any] = {"negatives": 1024, "whole_item": 1.0, "repeat_bias": False}
SETTINGS: dict[str, dict[str, Any]] = {"small": SAMPLED, "paper": {}}
HISTORY = 8  # items of a sequence
ROWS = 32  # sequences of the step that is measured
LINKS = {  # bytes/s in one direction of the slowest link of the ring
    (8, "NVLink, 450 GB/s"): 450e9,
    (8, "400 Gb/s"): 50e9,
    (64, "400 Gb/s"): 50e9,
    (64, "100 Gb/s"): 12.5e9,
}


@dataclass(frozen=True)
class Step:
    """One training step of a model, over all processes.

    Attributes:
        dense_bytes: bytes of all gradients but those of item tables.
        table_widths: width of each item table.
        items: number of items of the sequences.
        negatives: number of sampled items.
        flops: floating-point operations, forward and backward.
        cpu_seconds: seconds on this processor, with one process.
    """

    dense_bytes: int
    table_widths: tuple[int, ...]
    items: int
    negatives: int
    flops: float
    cpu_seconds: float

    def dense_seconds(self, catalogue: float, processes: int, bytes_per_second: float) -> float:
        """Return the seconds of an all-reduce of all gradients, item tables included."""
        tables = sum(4 * width * catalogue for width in self.table_widths)
        return 2 * (processes - 1) / processes * (self.dense_bytes + tables) / bytes_per_second

    def sparse_seconds(self, catalogue: int, processes: int, bytes_per_second: float) -> float:
        """Return the seconds of an all-reduce of the other gradients and a gather of the touched rows."""
        other = 2 * (processes - 1) / processes * self.dense_bytes
        rows = self.touched_rows(catalogue, processes)
        gathered = sum((processes - 1) * rows * (4 * width + 8) for width in self.table_widths)
        return (other + gathered) / bytes_per_second

    def turning_point(self, compute: float, processes: int, bytes_per_second: float) -> float:
        """Return the number of items from which the all-reduce of dense tables takes longer than `compute`
        seconds.
        """
        moved = compute * bytes_per_second * processes / (2 * (processes - 1))
        return max(0.0, (moved - self.dense_bytes) / (4 * sum(self.table_widths)))

    def touched_rows(self, catalogue: int, processes: int) -> float:
        """Return the expected distinct items that a process touches, if all items are equally frequent."""
        drawn = self.items / processes + self.negatives
        return catalogue * -np.expm1(drawn * np.log1p(-1 / catalogue))


def table_widths(preset: str) -> tuple[int, ...]:
    """Return the width of each parameter that has a row for each item, so that it grows with them."""
    sizes = [
        [parameter.shape for parameter in _model(preset, items).parameters()] for items in (12_101, 12_201)
    ]
    return tuple(shape[1:].numel() for shape, other in zip(*sizes, strict=True) if shape != other)


def measure(preset: str) -> Step:
    """Measure one training step of a preset."""
    model_settings, config = configure("maskgr", preset, SETTINGS[preset])
    model, items = _model(preset, ITEMS["12 thousand"]), ITEMS["12 thousand"]
    rng = np.random.default_rng(0)
    sequences = Sequences(
        rng.integers(0, items, ROWS * HISTORY).astype(np.int32), np.arange(ROWS + 1) * HISTORY
    )
    widths = table_widths(preset)
    total = sum(parameter.numel() for parameter in model.parameters())
    batches = Batches(sequences, ROWS, model_settings.window, config.seed)
    trainer = Trainer(model, batches, config, Accelerator(cpu=True))
    steps = batches.steps(0)
    trainer.training_step(*next(steps))
    with FlopCounterMode(display=False) as counter:
        trainer.training_step(*next(steps))
    started = time.monotonic()
    trainer.training_step(*next(steps))
    seconds = time.monotonic() - started
    whole = config.batch_size / ROWS
    return Step(
        4 * (total - items * sum(widths)),
        widths,
        config.batch_size * HISTORY,
        SETTINGS[preset].get("negatives", 0) if widths else 0,
        counter.get_total_flops() * whole,
        seconds * whole,
    )


def _model(preset: str, items: int) -> MaskGR:
    return build_maskgr(preset, SETTINGS[preset], Catalogue(items, random_sids(items), CODES))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--tflops",
        type=float,
        default=50.0,
        help="assumed rate of a GPU in 10^12 operations/s (default 50, 5%% of the bfloat16 peak of an H100)",
    )
    parser.add_argument(
        "--floor", type=float, default=5.0, help="assumed shortest step of a GPU in milliseconds (default 5)"
    )
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/scaling_model.json")
    arguments = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    results: dict[str, Any] = {"tflops": arguments.tflops, "floor_ms": arguments.floor}
    rows, turns = [], []
    for preset in SETTINGS:
        step = measure(preset)
        results[preset] = vars(step).copy()
        console.note(
            f"{preset}: {step.flops / 1e9:,.0f} GFLOP a step, {step.cpu_seconds:.1f} s on this processor; "
            f"gradients of {step.dense_bytes / 1e6:.2f} MB besides item tables of width "
            f"{', '.join(map(str, step.table_widths)) or '–'}."
        )
        for (processes, link), rate in LINKS.items() if step.table_widths else []:
            compute = max(arguments.floor / 1000, step.flops / processes / (arguments.tflops * 1e12))
            turning_point = step.turning_point(compute, processes, rate)
            turns.append((preset, processes, link, f"{turning_point:,.0f}"))
            results[f"{preset}, {processes} × {link}: turning point"] = round(turning_point)
        for size, items in ITEMS.items() if step.table_widths else [("any number", ITEMS["12 thousand"])]:
            for (processes, link), rate in LINKS.items():
                compute = max(arguments.floor / 1000, step.flops / processes / (arguments.tflops * 1e12))
                dense = step.dense_seconds(items, processes, rate)
                sparse = step.sparse_seconds(items, processes, rate)
                seconds = (compute, dense, sparse)
                rows.append((preset, size, processes, link, *(_milliseconds(value) for value in seconds),
                             f"{dense / compute:,.2f}", f"{sparse / compute:,.2f}"))  # fmt: skip
                results[f"{preset}, {size} items, {processes} × {link}"] = dict(
                    zip(("compute", "dense", "sparse"), seconds, strict=True)
                )
    headers = ["preset", "items", "GPUs", "link", "compute (ms)", "dense (ms)", "sparse (ms)"]
    console.table(
        "Milliseconds of a step: a model, not a measurement",
        [*headers, "dense / compute", "sparse / compute"],
        rows,
        f"Assumed: {arguments.tflops:g} TFLOP/s a GPU, no step below {arguments.floor:g} ms. Above 1, "
        "communication dominates.",
    )
    console.table(
        "Items from which dense tables make communication dominate: a model too",
        ["preset", "GPUs", "link", "items"],
        turns,
    )
    if arguments.save:
        save("scaling_model", results)


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:,.3f}"


if __name__ == "__main__":
    main()
