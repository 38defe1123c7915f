"""Cost of a larger catalogue with independent digits: users/s over 12 thousand and over a million items.

Every order is measured, with one digit per function evaluation and with several.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from typing import Any

import numpy as np
import torch

from benchmarks.common import build_maskgr, save
from maskgr_cli import console
from maskgr_cli.allocator import keep_freed_memory
from pipelines import artifacts
from pipelines.data.catalogue import Catalogue
from pipelines.data.splits import Split
from pipelines.decode.config import ORDERS, Decoding
from pipelines.decode.index import PartialIndex
from pipelines.evaluate.recommend import recommend
from pipelines.models.nn.precision import autocast
from pipelines.models.sid_models.maskgr import MaskGR
from pipelines.progress import Silent

SIZES = {"12 thousand": 12_101, "1 million": 1_000_000}
LARGEST = {"5 million": 5_000_000}  # for this size only the index is built
CODES, USERS, HISTORY = 256, 128, 8
EVALUATIONS = (5, 3, 2)
INDEPENDENT: dict[str, Any] = {  # settings of `maskgr`; the item softmax would compare with every item
    "tokens": "digit",
    "likelihood": "digit",
    "item_embeddings": False,
    "layers": 2,
    "repeat_bias": False,
}


def random_sids(items: int) -> np.ndarray:
    """Return distinct random semantic IDs, spread as widely as possible, int64 [items, 5].

    Four digits are random; the fifth is 0 for all items.
    """
    numbers = np.random.default_rng(0).choice(CODES**4, items, replace=False)
    return np.stack((*np.unravel_index(numbers, (CODES,) * 4), np.zeros(items, int)), axis=1)


def random_split(users: int, length: int, items: int, rng: np.random.Generator) -> Split:
    """Return random histories of equal length."""
    return Split(
        rng.integers(0, items, users * length).astype(np.int32),
        np.arange(users + 1) * length,
        np.arange(users, dtype=np.int32),
        np.zeros((users, 1), np.int32),
    )


def seconds(model: MaskGR, index: PartialIndex, decoding: Decoding, items: int) -> float:
    """Return the time to recommend to USERS users once."""
    split = random_split(USERS, HISTORY, items, np.random.default_rng(0))
    began = time.perf_counter()
    with autocast("auto", torch.device("cpu")):
        recommend(model, split, index, decoding, Silent())
    return time.perf_counter() - began


def measure(models: dict[str, MaskGR], indices: dict[str, PartialIndex], rounds: int) -> list[dict[str, Any]]:
    """Return users/s for each size of the catalogue, and their ratio, for every order and T."""
    figures = []
    for unmask, nfe in itertools.product(ORDERS, EVALUATIONS):
        decoding = Decoding(unmask=unmask, nfe=nfe)
        times: dict[str, list[float]] = {name: [] for name in SIZES}
        for _ in range(rounds + 1):  # sizes take turns; the first round warms up
            for name, items in SIZES.items():
                times[name].append(seconds(models[name], indices[name], decoding, items))
        small, large = (times[name][1:] for name in SIZES)
        ratio = statistics.median(b / a for a, b in zip(small, large, strict=True))
        figures.append(
            {
                "order": unmask,
                "evaluations": nfe,
                "users/s": [USERS / statistics.median(t) for t in (small, large)],
                "cost_ratio": ratio,
            }
        )
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="number of measurements of each size")
    parser.add_argument("--attention", choices=("full", "prefix"), default="full")
    parser.add_argument(
        "--save", action="store_true", help="write the figures to benchmarks/results/catalogue.json"
    )
    options = parser.parse_args()
    keep_freed_memory()
    settings = {"attention": options.attention, **INDEPENDENT}
    models, indices = {}, {}
    for name, items in SIZES.items():
        sids = random_sids(items)
        models[name] = build_maskgr("small", settings, Catalogue.of(sids, CODES)).eval()
        indices[name] = PartialIndex(sids, CODES)
    figures = measure(models, indices, options.rounds)
    rows = [
        (f["order"], f["evaluations"], *(f"{rate:.0f}" for rate in f["users/s"]), f"{f['cost_ratio']:.2f}×")
        for f in figures
    ]
    indices |= {name: PartialIndex(random_sids(items), CODES) for name, items in LARGEST.items()}
    built = "; ".join(
        f"{name}: index of {i.bytes / 2**20:.0f} MiB built in {i.seconds:.2f} s"
        for name, i in indices.items()
    )
    title = f"Users/s, constrained, {options.attention} attention, 20 beams"
    columns = ["order", "T", *SIZES, "cost of the larger"]
    console.table(title, columns, rows, f"{built}. {artifacts.machine()}")
    if options.save:
        index = {
            name: {"mib": i.bytes / 2**20, "seconds": i.seconds, "partials": len(i.partials)}
            for name, i in indices.items()
        }
        save("catalogue", {"attention": options.attention, "index": index, "orders": figures})


if __name__ == "__main__":
    main()
