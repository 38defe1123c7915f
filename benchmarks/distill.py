"""Cost of soft targets: CPU time of a training step with `--distill` relative to one without, on Beauty.

Both sides train the same windows of the same sequences, a step of one after a step of the other. The soft
targets are made up: random items, so that lookups are as scattered as they can be."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np

from benchmarks.common import dataset, require_beauty, save
from maskgr_cli import console
from maskgr_cli.allocator import keep_freed_memory
from pipelines import artifacts
from pipelines.data.catalogue import Catalogue, load_catalogue
from pipelines.data.sequences import Sequences, load_sequences
from pipelines.data.splits import training
from pipelines.models import loading
from pipelines.models.objectives.soft_targets import SoftTargets
from pipelines.train.accelerator import start_accelerate
from pipelines.train.batches import Batches
from pipelines.train.configure import configure
from pipelines.train.loop import Trainer

STUDENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "small": ("maskgr", {}),
    "small --no-item-embeddings": ("maskgr", {"item_embeddings": False}),
    "small --negatives 1024": ("maskgr", {"negatives": 1024}),
    "small --likelihood digit": ("maskgr", {"likelihood": "digit"}),
    "small, digits apart, full attention": (
        "maskgr",
        {"likelihood": "digit", "tokens": "digit", "attention": "full", "next_item": 0.5},
    ),
    "tiger": ("tiger", {}),
    "rpg": ("rpg", {}),
    "diffgrm": ("diffgrm", {}),
}


def made_targets(places: int, items: int, count: int) -> SoftTargets:
    """Return random soft targets of so many places, `count` of N items each."""
    rng = np.random.default_rng(0)
    chosen = rng.integers(0, items, (places, count), dtype=np.int32)
    probabilities = rng.random((places, count), dtype=np.float32).astype(np.float16)
    return SoftTargets(chosen, probabilities, np.arange(places), 0.9)


def steps_of(
    name: str, catalogue: Catalogue, sequences: Sequences, soft: SoftTargets | None
) -> Callable[[], float]:
    """Return a function that does the next training step, and returns its CPU seconds."""
    model_name, settings = STUDENTS[name]
    config, schedule = configure(model_name, "small", settings)
    model = loading.build(config, catalogue)
    prefixes = config.examples == "prefixes"
    batches = Batches(sequences, schedule.batch_size, config.window, 0, prefixes, soft=soft)
    trainer = Trainer(model, batches, schedule, start_accelerate(schedule.precision))
    steps = batches.steps(0)

    def work() -> float:
        step, windows, rows = next(steps)
        began = time.process_time()
        trainer.training_step(step, windows, rows)
        return time.process_time() - began

    return work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=30, help="number of measured steps of each side")
    parser.add_argument("--items", type=int, default=128, help="number of items of a soft target")
    parser.add_argument("--student", choices=STUDENTS, help="one student alone")
    parser.add_argument("--save", action="store_true", help="write the figures to benchmarks/results")
    options = parser.parse_args()
    keep_freed_memory()
    require_beauty()
    data, sids = dataset()
    catalogue, sequences = (
        load_catalogue(data, sids, ("embeddings",)),
        training(load_sequences(data.sequences)),
    )
    soft = made_targets(len(sequences.items), catalogue.items, options.items)
    rows, figures = [], {}
    for name in [options.student] if options.student else STUDENTS:
        sides = [steps_of(name, catalogue, sequences, each) for each in (None, soft)]
        pairs = [[side() for side in sides] for _ in range(options.steps + 2)]
        without, taught = zip(*islice(pairs, 2, None), strict=True)  # after two steps that warm up
        ratio = statistics.median(b / a for a, b in zip(without, taught, strict=True))
        milliseconds = [1000 * statistics.median(side) for side in (without, taught)]
        rows.append((name, *(f"{value:.0f}" for value in milliseconds), f"{ratio:.2f}"))
        figures[name] = {"milliseconds": milliseconds, "ratio": ratio}
    headers = ["student", "without, ms", "with, ms", "ratio"]
    console.table(f"CPU time of a step, {options.items} items", headers, rows, artifacts.machine())
    if options.save:
        save("distill", {"items": options.items, "students": figures})


if __name__ == "__main__":
    main()
