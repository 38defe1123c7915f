"""Memory and speed of training and evaluation on sequences that stay in their files.

A data set of made users is written (drawn with a seed; nothing in it can be learned). Then `maskgr train` and
`maskgr eval` run in processes of their own, whose largest resident memory is measured:

    python -m benchmarks.big_sequences FOLDER --users 5000000

The folder becomes a workspace; it keeps the data for another run.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import shlex
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.common import save
from maskgr_cli import console
from pipelines import artifacts
from pipelines.artifact_parts import write_parts
from pipelines.data.groups import training_groups
from pipelines.data.stored import StoredSequences
from pipelines.train.batches import Cut
from pipelines.train.streamed import StreamedBatches
from pipelines.workspace import Dataset, Workspace

NAME, SIDS, RUN = "made", "made", "made"
GROUP = 100_000  # users of a row group
LONGEST, MEAN = 50, 10  # items of a sequence
CODES, LEVELS = 256, 4


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="workspace of the made data")
    parser.add_argument("--users", type=int, default=5_000_000)
    parser.add_argument("--items", type=int, default=200_000)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--sample", type=int, default=10_000, help="users of the evaluation")
    parser.add_argument("--options", default="--negatives 1024", help="further options of `maskgr train`")
    parser.add_argument(
        "--save", action="store_true", help="write the figures to benchmarks/results/big_sequences.json"
    )
    parser.add_argument("--epoch", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    dataset = Workspace(options.folder).dataset(NAME)
    if not dataset.sequences.exists():
        _make(dataset, options.users, options.items)
    if options.epoch:
        print(json.dumps(_epoch(dataset, options.items)))
        return
    size = dataset.sequences.stat().st_size / 2**20
    figures = {"sequences.parquet": f"{size:,.0f} MiB"}
    command = [sys.executable, "-m", "benchmarks.big_sequences", str(options.folder), "--epoch"]
    child = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    figures["windows of an epoch"] = json.loads(child.stdout)
    train = (
        f"train --dataset {NAME} --semantic-ids {SIDS} --preset small --no-centroids --name {RUN} --force "
    )
    train += f"--steps {options.steps} --validations 1 --validation-users 1000 {options.options}"
    for title, command in (
        (f"train, {options.steps} steps", train),
        (f"eval, {options.sample:,} users", f"eval {RUN} --users {options.sample} --force"),
    ):
        seconds, peak = _measured(options.folder, command)
        figures[title] = f"{seconds:,.0f} s, {peak:.2f} GiB resident at most"
    figures["training"] = _rate(Workspace(options.folder))
    console.table(f"{options.users:,} users, {artifacts.machine()}", ["", "value"], list(figures.items()))
    if options.save:
        save("big_sequences", figures)


def _make(dataset: Dataset, users: int, items: int) -> None:
    """Write items, semantic IDs and sequences."""
    numbers = pa.array(np.arange(items), pa.int32())
    ids = pa.array([f"item-{item}" for item in range(items)])
    texts = pa.array([""] * items)
    artifacts.write(
        dataset.items, "items", pa.table({"item": numbers, "item_id": ids, "text": texts}), config={}
    )
    rng = np.random.default_rng(0)
    codes = rng.permutation(CODES ** (LEVELS - 1))[:items]
    digits = np.stack([codes // CODES**level % CODES for level in range(LEVELS)], 1).astype(np.int16)
    table = pa.table({"item": numbers, "sid": artifacts.fixed_size_list(digits)})
    config = {"codebook": CODES, "num_levels": LEVELS - 1}
    artifacts.write(dataset.sids(SIDS), "sids", table, config=config, inputs={"items": dataset.items})
    with write_parts(
        dataset.sequences, "sequences", config={"seed": 0}, inputs={"items": dataset.items}
    ) as parts:
        for first in range(0, users, GROUP):
            parts.add(_users(rng, first, min(GROUP, users - first), items))


def _users(rng: np.random.Generator, first: int, count: int, items: int) -> pa.Table:
    """Return the sequences of users; a few items are taken much more often than the others."""
    lengths = np.minimum(5 + rng.geometric(1 / (MEAN - 4), count) - 1, LONGEST)
    taken = (items * rng.random(lengths.sum()) ** 3).astype(np.int32)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    users = np.arange(first, first + count)
    return pa.table(
        {
            "user": pa.array(users, pa.int32()),
            "user_id": pa.array(users).cast(pa.string()),
            "items": pa.ListArray.from_arrays(offsets, pa.array(taken)),
        }
    )


def _epoch(dataset: Dataset, items: int) -> str:
    """Read the steps of an epoch without training, and describe the cost."""
    groups = training_groups(StoredSequences(dataset.sequences, items).groups, items)
    batches = StreamedBatches(groups, 128, Cut(20), seed=0)
    began, before = time.process_time(), _peak()
    for _ in itertools.islice(batches.steps(0), batches.steps_per_epoch):
        pass
    seconds = time.process_time() - began
    return (
        f"{batches.steps_per_epoch:,} steps of 128 in {seconds:.0f} s of CPU time, "
        f"{1e6 * seconds / batches.steps_per_epoch:.0f} μs a step; {_peak():.2f} GiB resident at most, "
        f"{before:.2f} before"
    )


def _peak() -> float:
    """Return the largest resident memory of this process so far, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _measured(workspace: Path, command: str) -> tuple[float, float]:
    """Run a command and return its seconds and its largest resident memory in GiB."""
    began = time.monotonic()
    words = [sys.executable, "-m", "maskgr_cli", *shlex.split(command), "--workspace", str(workspace)]
    process = subprocess.Popen(words)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"maskgr {command} failed")
    return time.monotonic() - began, usage.ru_maxrss / 2**20


def _rate(workspace: Workspace) -> str:
    """Return the speed of the training, without reading and the first steps."""
    rows = artifacts.read(workspace.run(RUN).history, "history").to_pylist()
    tokens, seconds = (
        [row["value"] for row in rows if row["measure"] == name] for name in ("tokens", "seconds")
    )
    return f"{(tokens[-1] - tokens[0]) / (seconds[-1] - seconds[0]):,.0f} tokens/s"


if __name__ == "__main__":
    main()
