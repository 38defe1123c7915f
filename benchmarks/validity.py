"""Whether constrained decoding, digits apart, ever returns what is no item, or an item twice: a million beams of every order."""

from __future__ import annotations

import argparse

import numpy as np
import torch

from benchmarks.catalogue import APART, CODES, SIZES, catalogue
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
from pipelines.progress import Silent
from pipelines.train.configure import configure

BEAMS, HISTORY = 20, 5


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--beams", type=int, default=1_000_000, help="of all orders together")
    parser.add_argument(
        "--save", action="store_true", help="write the figures to benchmarks/results/validity.json"
    )
    options = parser.parse_args()
    keep_freed_memory()
    N = SIZES["12 thousand"]
    sids = catalogue(N)
    index = PartialIndex(sids, CODES)
    model_settings, _ = configure("maskgr", "small", APART)
    model = loading.build(model_settings, Catalogue.of(sids, CODES)).eval()
    rows, rng = [], np.random.default_rng(0)
    users = -(-options.beams // (BEAMS * len(ORDERS) * index.digits))
    for unmask in ORDERS:
        for T in range(1, index.digits + 1):
            history = rng.integers(0, N, users * HISTORY).astype(np.int32)
            split = Split(
                history,
                np.arange(users + 1) * HISTORY,
                np.arange(users, dtype=np.int32),
                np.zeros((users, 1), np.int32),
            )
            with autocast("auto", torch.device("cpu")):
                items = recommend(
                    model, split, index, Decoding(unmask=unmask, nfe=T, beams=BEAMS), Silent()
                ).items[:, :, 0]
            ordered = np.sort(items, axis=1)
            repeated = int(((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).sum())
            rows.append((unmask, T, items.size, int((items < 0).sum()), repeated))
    columns = ["order", "T", "beams", "no item", "repeated"]
    total = ("all", None, *(sum(row[place] for row in rows) for place in (2, 3, 4)))
    console.table("Constrained decoding", columns, [*rows, total], artifacts.machine())
    if options.save:
        save("validity", {"measured": [dict(zip(columns, row, strict=True)) for row in (*rows, total)]})


if __name__ == "__main__":
    main()
