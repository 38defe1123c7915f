"""Number of invalid and repeated items that constrained decoding with independent digits returns: a million
beams of every order.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

from benchmarks.catalogue import CODES, INDEPENDENT, SIZES, random_sids, random_split
from benchmarks.common import build_maskgr, save
from maskgr_cli import console
from maskgr_cli.allocator import keep_freed_memory
from pipelines import artifacts
from pipelines.data.catalogue import Catalogue
from pipelines.decode.config import ORDERS, Decoding
from pipelines.decode.index import PartialIndex
from pipelines.evaluate.recommend import recommend
from pipelines.models.nn.precision import autocast
from pipelines.progress import Silent

BEAMS, HISTORY = 20, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--beams", type=int, default=1_000_000, help="number of beams of all orders together")
    parser.add_argument(
        "--save", action="store_true", help="write the figures to benchmarks/results/validity.json"
    )
    options = parser.parse_args()
    keep_freed_memory()
    N = SIZES["12 thousand"]
    sids = random_sids(N)
    index = PartialIndex(sids, CODES)
    model = build_maskgr("small", INDEPENDENT, Catalogue.of(sids, CODES)).eval()
    rows: list[tuple[str, int, int, int, int]] = []
    rng = np.random.default_rng(0)
    users = -(-options.beams // (BEAMS * len(ORDERS) * index.digits))
    for unmask in ORDERS:
        for T in range(1, index.digits + 1):
            split = random_split(users, HISTORY, N, rng)
            decoding = Decoding(unmask=unmask, nfe=T, beams=BEAMS)
            with autocast("auto", torch.device("cpu")):
                items = recommend(model, split, index, decoding, Silent()).items[:, :, 0]
            ordered = np.sort(items, axis=1)
            repeated = int(((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).sum())
            rows.append((unmask, T, items.size, int((items < 0).sum()), repeated))
    columns = ["order", "T", "beams", "no item", "repeated"]
    beams, invalid, repeats = (sum(column) for column in list(zip(*rows, strict=True))[2:])
    table = [*rows, ("all", None, beams, invalid, repeats)]
    console.table("Constrained decoding", columns, table, artifacts.machine())
    if options.save:
        save("validity", {"measured": [dict(zip(columns, row, strict=True)) for row in table]})


if __name__ == "__main__":
    main()
