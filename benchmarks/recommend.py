"""Time of recommendations of a trained run: from the shell, in a loaded model, to all users, with a filter.

One process on one core measures all rows:

    python -m benchmarks.recommend RUN --workspace FOLDER
"""

from __future__ import annotations

import dataclasses
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import torch

from benchmarks.common import run_parser, save
from maskgr_cli import console
from maskgr_cli.allocator import keep_freed_memory
from pipelines import artifacts
from pipelines.data.sequences import Sequences
from pipelines.decode.config import Decoding
from pipelines.recommend.histories import Histories, sample_histories
from pipelines.recommend.load import load
from pipelines.recommend.model import Model, Query

RUNS = 5  # starts from the shell of each side, in turn
REQUESTS = 300
SHARE = 0.01  # share of the items that the filter keeps


def main() -> None:
    options = run_parser(__doc__, "recommend").parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", UserWarning)
    model = load(options.run, workspace=options.workspace, device="cpu")
    query = model.query(Decoding(), 10)
    figures = {
        **_from_the_shell(model, options.workspace),
        **_one_user(model, query),
        **_everyone(model, query),
        **_filtered(model, query),
    }
    machine = artifacts.machine()
    console.table(f"Recommendations of {model.run.name}, {machine}", ["", "value"], list(figures.items()))
    if options.save:
        save("recommend", figures)


def _median(function: Callable[[], object], times: int) -> float:
    """Return the median of a function's seconds."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        function()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def _from_the_shell(model: Model, workspace: Path | None) -> dict[str, str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    where = ["--workspace", str(workspace)] if workspace else []
    user = str(model.users[0])
    sides = {
        "torch": ["-c", "import torch"],
        "recommend": ["-m", "maskgr_cli", "recommend", model.run.name, "--user", user, *where],
    }
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(RUNS):
        for name, arguments in sides.items():
            began = time.perf_counter()
            subprocess.run([sys.executable, *arguments], capture_output=True, check=True, env=environment)
            taken[name].append(time.perf_counter() - began)
    torch_seconds, seconds = (statistics.median(taken[name]) for name in sides)
    return {
        'python -c "import torch"': f"{torch_seconds:.2f} s",
        "one user from the shell": f"{seconds:.2f} s, {seconds - torch_seconds:+.2f} s",
    }


def _one_user(model: Model, query: Query) -> dict[str, str]:
    users = sample_histories(model, REQUESTS, seed=0)
    single = []
    for place in range(len(users.items)):
        items = users.of(place)
        single.append(Histories(users.names[place : place + 1], Sequences(items, np.array([0, len(items)]))))
    for one in single[:20]:
        model.answer(query, one)
    taken = []
    for one in single:
        began = time.perf_counter()
        model.answer(query, one)
        taken.append(1000 * (time.perf_counter() - began))
    p50, p99 = np.percentile(taken, (50, 99))
    return {"one user in a loaded model": f"p50 {p50:.1f} ms, p99 {p99:.1f} ms"}


def _everyone(model: Model, query: Query) -> dict[str, str]:
    users = len(model.sequences)
    seconds = _median(partial(model.find, query, model.sequences), 3)
    return {"all users, decoding": f"{seconds:.2f} s, {users / seconds:,.0f} users/s ({users:,} users)"}


def _filtered(model: Model, query: Query) -> dict[str, str]:
    """Time a filter that keeps one item in a hundred, for one function evaluation and for one per digit."""
    items = len(model.table)
    kept = np.sort(np.random.default_rng(0).choice(items, max(20, int(SHARE * items)), replace=False))
    users = sample_histories(model, 2000, seed=1).items
    rows = {}
    digits = getattr(model.trained.model, "digits", 1)
    for nfe in dict.fromkeys((query.decoding.nfe, digits)):
        plain = model.query(Decoding(nfe=nfe), 10)
        filtered = dataclasses.replace(plain, qualifying=kept)
        model.find(filtered, users)
        with_filter = _median(partial(model.find, filtered, users), 3)
        without = _median(partial(model.find, plain, users), 3)
        found = model.find(filtered, users)
        full = bool((found.items >= 0).all() and pl.Series(found.items.ravel()).is_in(kept.tolist()).all())
        evaluations = nfe or digits
        rows[f"filter of {SHARE:.0%} of the items, T = {evaluations}"] = (
            f"{with_filter / without:.2f}× the time without ({'k' if full else 'FEWER THAN k'} items for all)"
        )
    return rows


if __name__ == "__main__":
    main()
