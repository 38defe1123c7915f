"""Cost of a training step by the size of the catalogue: tokens/s and peak memory, with sampled items and with
digits apart.

The data are made: semantic IDs with unequal codes, users with 2 to 20 items of unequal popularity. Each
measurement is a process of its own.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import rate, save
from maskgr_cli import console
from maskgr_cli.allocator import keep_freed_memory
from pipelines import artifacts
from pipelines.data.catalogue import Catalogue
from pipelines.data.sequences import Sequences
from pipelines.models import loading
from pipelines.models.sid_models.maskgr import MaskGR
from pipelines.train.accelerator import start_accelerate
from pipelines.train.batches import Batches
from pipelines.train.configure import configure
from pipelines.train.loop import Trainer

SIZES = {"12 thousand": 12_101, "1 million": 1_000_000, "10 million": 10_000_000}
CODES, DIGITS, USERS = 256, 4, 50_000
WARM_UP = 20  # steps before the measurement: the first ones touch the memory of moments and index
SIDES: dict[str, dict[str, Any]] = {
    "small --negatives 1024": {"negatives": 1024},
    "small --negatives 1024 --no-item-embeddings": {"negatives": 1024, "item_embeddings": False},
    "small --likelihood digit --no-item-embeddings": {"likelihood": "digit", "item_embeddings": False},
}

Found = dict[str, dict[str, list[dict[str, Any]]]]  # side → size → measurements


def unequal_sids(items: int, seed: int = 0) -> np.ndarray:
    """Return distinct semantic IDs whose codes are unequally frequent, int16 [items, 5].

    The fifth digit tells items with the same four codes apart.
    """
    rng = np.random.default_rng(seed)
    shares = 1 / (np.arange(CODES) + 32)
    digits = [
        rng.permutation(CODES)[rng.choice(CODES, items, p=shares / shares.sum())] for _ in range(DIGITS)
    ]
    number = np.ravel_multi_index(digits, (CODES,) * DIGITS).astype(np.int64)
    order = np.argsort(number, kind="stable")
    first = np.flatnonzero(np.diff(number[order], prepend=-1))  # of each group of equal codes
    last = np.empty(items, np.int16)
    last[order] = np.arange(items) - np.repeat(first, np.diff(first, append=items))
    return np.stack([*(digit.astype(np.int16) for digit in digits), last], axis=1)


def made_sequences(items: int, seed: int = 0) -> Sequences:
    """Return sequences of 2 to 20 items, of which the lower numbers are more popular."""
    rng = np.random.default_rng(seed)
    lengths = np.minimum(2 + rng.geometric(0.17, USERS), 20)
    chosen = (items * rng.random(lengths.sum()) ** 2).astype(np.int32)
    return Sequences(chosen, np.concatenate([[0], np.cumsum(lengths)]))


def trainer(sids: np.ndarray, settings: dict[str, Any]) -> Trainer:
    """Return a trainer of a new model over made data."""
    model_settings, schedule = configure("maskgr", "small", {"centroids": False, **settings})
    model = loading.build(model_settings, Catalogue.of(sids, CODES))
    batches = Batches(made_sequences(len(sids)), schedule.batch_size, model_settings.max_items, seed=0)
    return Trainer(model, batches, schedule, start_accelerate(schedule.precision))


def training_tokens(trainer: Trainer) -> Callable[[], int]:
    """Return a function that does the next training step, and returns its number of tokens."""
    steps = trainer.batches.steps(0)

    def work() -> int:
        return trainer.training_step(*next(steps))[1]

    return work


def listed_bytes(trainer: Trainer) -> dict[str, int]:
    """Return the bytes of what training must hold."""
    model = trainer.unwrapped_model
    assert isinstance(model, MaskGR)
    moments = [t for o in trainer.optimizers for s in o.state.values() for t in s.values()]
    return {
        "parameters": sum(p.nbytes for p in model.parameters()),
        "moments": sum(t.nbytes for t in moments if isinstance(t, torch.Tensor)),
        "semantic IDs": model.embedding.sids.nbytes,
        "index": model.candidate_bytes,
    }


def measure(sids: Path, side: str, seconds: float) -> dict[str, Any]:
    """Return tokens/s, peak memory in bytes and the listed bytes of one side, measured in this process.

    Args:
        sids: file of semantic IDs. They are made in another process, whose memory does not count.
        side: key of `SIDES`.
        seconds: duration of the measurement.
    """
    keep_freed_memory()
    before = trainer(unequal_sids(1000), SIDES[side])
    rate(training_tokens(before), 0)
    del before
    program = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # with a small model
    made = trainer(np.load(sids), SIDES[side])
    work = training_tokens(made)
    for _ in range(WARM_UP):
        work()
    tokens = rate(work, seconds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"tokens/s": tokens, "peak": peak, "program": program, "listed": listed_bytes(made)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="number of measurements of each side")
    parser.add_argument("--seconds", type=float, default=20, help="duration of each measurement")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument(
        "--save", action="store_true", help="write the figures to benchmarks/results/flat_cost.json"
    )
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(Path(options.measure[0]), options.measure[1], options.seconds)))
        return
    with tempfile.TemporaryDirectory() as folder:
        found = _measure_all(Path(folder), options)
    _show(found, options)
    if options.save:
        save("flat_cost", {"measured": found})


def _measure_all(folder: Path, options: argparse.Namespace) -> Found:
    """Measure all sides over all sizes in turn, with files of semantic IDs in a folder."""
    files = {size: folder / f"{SIZES[size]}.npy" for size in options.sizes}
    # A process inherits the peak of the one that starts it, so that this one must stay small.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        list(pool.map(_write_sids, files.values(), (SIZES[size] for size in files)))
    found: Found = {side: {} for side in options.sides}
    for _ in range(options.rounds):
        for side in options.sides:
            for size in options.sizes:
                command = [sys.executable, "-m", "benchmarks.flat_cost", "--measure", str(files[size]), side]
                command += ["--seconds", str(options.seconds)]
                child = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                found[side].setdefault(size, []).append(json.loads(child.stdout))
    return found


def _write_sids(file: Path, items: int) -> None:
    np.save(file, unequal_sids(items))


def _show(found: Found, options: argparse.Namespace) -> None:
    """Print a row for each side and size."""
    rows = []
    for side, sizes in found.items():
        base = [one["tokens/s"] for one in sizes[options.sizes[0]]]
        for size, rounds in sizes.items():
            ratio = statistics.median(one["tokens/s"] / b for one, b in zip(rounds, base, strict=True))
            listed, peak = sum(rounds[0]["listed"].values()), max(one["peak"] for one in rounds)
            tokens = statistics.median(one["tokens/s"] for one in rounds)
            figures = (f"{value / 2**20:,.0f}" for value in (peak, listed, peak - listed))
            rows.append((side, size, f"{tokens:,.0f}", f"{ratio:.2f}×", *figures))
    columns = ["preset", "items", "tokens/s", "of the first size", "peak MiB", "listed MiB", "rest MiB"]
    note = "Listed: parameters, moments, semantic IDs and index. "
    console.table("Training by the size of the catalogue", columns, rows, f"{note}{artifacts.machine()}")


if __name__ == "__main__":
    main()
