"""Decoding with large catalogues: 12 thousand, 1 million and 10 million items, for digits apart (one function
evaluation per digit) and for the item softmax without and with item embeddings (one function evaluation).

Every kind of model runs in a process of its own, on one core, which measures the sizes in turn:

    python -m benchmarks.large

Weights are random. Semantic IDs have four digits of 256 codes, whose popularity is skewed and depends on the
first digit, as in residual quantization, and a deduplication digit. Other numbers of digits are measured for
digits apart, with one function evaluation per digit and with four:

    python -m benchmarks.large --digits 5 9 17 33 --items 12101 --users 32"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

import numpy as np
import torch

from benchmarks.catalogue import CODES, random_split
from benchmarks.common import build_maskgr, save
from maskgr_cli import console
from maskgr_cli.allocator import keep_freed_memory
from pipelines import artifacts
from pipelines.data.catalogue import Catalogue
from pipelines.data.splits import Split
from pipelines.decode.build_index import build_index
from pipelines.decode.config import Decoding
from pipelines.evaluate.recommend import recommend
from pipelines.models.nn.precision import autocast
from pipelines.models.sid_models.maskgr import MaskGR
from pipelines.progress import Silent

SIZES = (12_101, 1_000_000, 10_000_000)
DIGITS, SKEW = 5, 0.5  # the code of rank r has a share proportional to r^−SKEW
USERS, HISTORY = 128, 8
FEW = 4  # function evaluations, beside one per digit, where numbers of digits are measured
REQUESTS = 15  # of one user each, in a round
SOFTMAX: dict[str, Any] = {"centroids": False}
KINDS: dict[str, tuple[dict[str, Any], Decoding]] = {
    "digits apart": (
        {"likelihood": "digit", "item_embeddings": False, "repeat_bias": False, "centroids": False},
        Decoding(),
    ),
    "item softmax": ({**SOFTMAX, "item_embeddings": False}, Decoding(nfe=1)),
    "item softmax, item embeddings": (SOFTMAX, Decoding(nfe=1)),
}


def skewed_sids(items: int, seed: int = 0, digits: int = DIGITS) -> np.ndarray:
    """Return distinct semantic IDs, int64 [items, digits]."""
    rng, levels = np.random.default_rng(seed), digits - 1
    shares = (1.0 + np.arange(CODES)) ** -SKEW
    draws = rng.choice(CODES, (levels, items), p=shares / shares.sum())
    order = rng.permuted(np.tile(np.arange(CODES), (CODES, 1)), axis=1)  # of popularity, after a first code
    sids = np.zeros((items, digits), np.int64)
    sids[:, 0] = draws[0]
    for level in range(1, levels):
        sids[:, level] = order[(draws[0] + level) % CODES, draws[level]]
    # Four digits are nearly always distinct, so that more need not be compared.
    numbers = sids[:, : DIGITS - 1] @ CODES ** np.arange(DIGITS - 1)[::-1]
    rows = np.argsort(numbers, kind="stable")
    starts = np.flatnonzero(np.diff(numbers[rows], prepend=-1))
    sids[rows, levels] = np.arange(items) - np.repeat(starts, np.diff(starts, append=items))
    return sids


class Side:
    """A model of one kind over a catalogue of one size."""

    def __init__(self, kind: str, items: int, users: int, digits: int = DIGITS, nfe: int = 0) -> None:
        settings, self._decoding = KINDS[kind]
        if nfe:
            self._decoding = Decoding(nfe=nfe)
        sids = skewed_sids(items, digits=digits)
        self._model: MaskGR = build_maskgr("small", settings, Catalogue.of(sids, CODES)).eval()
        self._index = build_index(sids, CODES, self._decoding.reachable(sids.shape[1]))
        self._many = random_split(users, HISTORY, items, np.random.default_rng(0))
        self._one = [random_split(1, HISTORY, items, np.random.default_rng(i)) for i in range(REQUESTS)]
        self.figures: dict[str, Any] = {
            "items": items,
            "digits": digits,
            "evaluations": self._decoding.nfe or digits,
            "users": users,
            "bytes": {
                "semantic IDs": sids.nbytes,
                "parameters": sum(p.nbytes for p in self._model.parameters()),
                "index": self._index.bytes - self._index.sids.nbytes,
            },
            "index_seconds": self._index.seconds,
        }
        self.rates: list[float] = []
        self.milliseconds: list[float] = []

    def measure(self) -> None:
        """Recommend to all users together, and to REQUESTS users one by one."""
        self.rates.append(len(self._many) / self._seconds(self._many))
        self.milliseconds += [1000 * self._seconds(one) for one in self._one]

    def _seconds(self, split: Split) -> float:
        began = time.perf_counter()
        with autocast("auto", torch.device("cpu")):
            recommend(self._model, split, self._index, self._decoding, Silent())
        return time.perf_counter() - began


def measure(kind: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the figures of each size, or of each number of digits."""
    if options.digits:
        cases = [(options.items[0], digits, nfe) for digits in options.digits for nfe in (digits, FEW)]
    else:
        cases = [(items, DIGITS, 0) for items in options.items]
    sides = [Side(kind, items, options.users, digits, nfe) for items, digits, nfe in cases]
    for _ in range(options.rounds + 1):  # the first round warms up
        for side in sides:
            side.measure()
    first = sides[0].rates[1:]
    for side in sides:
        rates = side.rates[1:]
        side.figures |= {
            "users/s": statistics.median(rates),
            "cost_ratio": statistics.median(a / b for a, b in zip(first, rates, strict=True)),
            "p50_ms": statistics.median(side.milliseconds[REQUESTS:]),
        }
    sides[-1].figures["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return [side.figures for side in sides]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="number of measurements of each size")
    parser.add_argument("--items", type=int, nargs="+", default=SIZES, help="sizes, the smallest first")
    parser.add_argument("--digits", type=int, nargs="+", help="numbers of digits; of the first size alone")
    parser.add_argument("--users", type=int, default=USERS, help="number of users of a measurement")
    parser.add_argument("--save", action="store_true", help="write the figures to benchmarks/results/")
    parser.add_argument("--kind", choices=KINDS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.kind:
        keep_freed_memory()
        torch.set_num_threads(1)
        print(json.dumps(measure(options.kind, options)))
        return
    results: dict[str, list[dict[str, Any]]] = {}
    for kind in ["digits apart"] if options.digits else KINDS:
        command = [sys.executable, "-m", "benchmarks.large", "--kind", kind, *sys.argv[1:]]
        child = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        results[kind] = json.loads(child.stdout)
    rows = [
        (
            kind,
            f"{f['items']:,}",
            f"{f['digits']}",
            f"{f['evaluations']}",
            f"{f['index_seconds']:.2f} s",
            *(f"{f['bytes'][part] / 2**20:,.0f}" for part in ("index", "semantic IDs", "parameters")),
            f"{f['peak_mib']:,.0f}" if "peak_mib" in f else None,
            f"{f['users/s']:.1f}",
            f"{f['cost_ratio']:.2f}×",
            f"{f['p50_ms']:.1f} ms",
        )
        for kind, figures in results.items()
        for f in figures
    ]
    columns = ["model", "items", "H", "T", "index built in", "MiB: index", "semantic IDs", "parameters"]
    columns += ["peak", "users/s", "cost", "one user, p50"]
    console.table("Decoding on one core, 20 beams", columns, rows, artifacts.machine())
    if options.save:
        save("digits" if options.digits else "large", {"kinds": results})


if __name__ == "__main__":
    main()
