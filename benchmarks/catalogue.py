"""What a larger catalogue costs where digits are apart: users a second over 12 thousand and over a million items.

In every order, one digit an evaluation and several.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time

import numpy as np
import torch

from benchmarks.common import save
from maskgr_cli import console
from maskgr_cli.allocator import keep_freed_memory
from pipelines import artifacts
from pipelines.data.catalogue import Catalogue
from pipelines.data.splits import Split
from pipelines.decode.config import ORDERS, Decoding
from pipelines.decode.index import PartialIndex
from pipelines.evaluate.recommend import recommend
from pipelines.models import loading
from pipelines.models.nn.precision import autocast
from pipelines.models.sid_models.maskgr import MaskGR
from pipelines.progress import Silent
from pipelines.train.configure import configure

SIZES = {"12 thousand": 12_101, "1 million": 1_000_000}
LARGEST = {"5 million": 5_000_000}  # its index alone is built
CODES, USERS, HISTORY = 256, 128, 8
EVALUATIONS = (5, 3, 2)
APART = {
    "tokens": "digit",
    "likelihood": "digit",
    "item_embeddings": False,
    "layers": 2,
}  # joint digits compare with every item
APART |= {"repeat_bias": False}


def catalogue(items: int) -> np.ndarray:
    """Random SIDs of four digits, and a fifth that is 0 for all: distinct, and as spread as can be. [N, 5]"""
    numbers = np.random.default_rng(0).choice(CODES**4, items, replace=False)
    return np.stack((*np.unravel_index(numbers, (CODES,) * 4), np.zeros(items, int)), axis=1)


def seconds(model: MaskGR, index: PartialIndex, decoding: Decoding, items: int) -> float:
    """Time for USERS users, once."""
    rng = np.random.default_rng(0)
    history = rng.integers(0, items, USERS * HISTORY).astype(np.int32)
    split = Split(
        history,
        np.arange(USERS + 1) * HISTORY,
        np.arange(USERS, dtype=np.int32),
        np.zeros((USERS, 1), np.int32),
    )
    began = time.perf_counter()
    with autocast("auto", torch.device("cpu")):
        recommend(model, split, index, decoding, Silent())
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--attention", choices=("full", "prefix"), default="full")
    parser.add_argument(
        "--save", action="store_true", help="write the figures to benchmarks/results/catalogue.json"
    )
    options = parser.parse_args()
    keep_freed_memory()
    model_settings, _ = configure("maskgr", "small", {"attention": options.attention, **APART})
    models, indices, figures = {}, {}, []
    for name, items in SIZES.items():
        sids = catalogue(items)
        models[name] = loading.build(model_settings, Catalogue.of(sids, CODES)).eval()
        indices[name] = PartialIndex(sids, CODES)
    for unmask, nfe in itertools.product(ORDERS, EVALUATIONS):
        decoding = Decoding(unmask=unmask, nfe=nfe)
        times: dict[str, list[float]] = {name: [] for name in SIZES}
        for _ in range(options.rounds + 1):  # in turn; the first round warms up
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
    rows = [
        (f["order"], f["evaluations"], *(f"{rate:.0f}" for rate in f["users/s"]), f"{f['cost_ratio']:.2f}×")
        for f in figures
    ]
    indices |= {name: PartialIndex(catalogue(items), CODES) for name, items in LARGEST.items()}
    built = "; ".join(
        f"{name}: index of {i.bytes / 2**20:.0f} MiB built in {i.seconds:.2f} s"
        for name, i in indices.items()
    )
    title = f"Users/s, constrained, {options.attention} attention, 20 beams"
    console.table(
        title, ["order", "T", *SIZES, "cost of the larger"], rows, f"{built}. {artifacts.machine()}"
    )
    if options.save:
        index = {
            name: {"mib": i.bytes / 2**20, "seconds": i.seconds, "partials": len(i.partials)}
            for name, i in indices.items()
        }
        save("catalogue", {"attention": options.attention, "index": index, "orders": figures})


if __name__ == "__main__":
    main()
