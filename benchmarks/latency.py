"""Latency for one user on one core: preset `small`, a history of 20 items, 20 beams, three function
evaluations and one.
"""

from __future__ import annotations

import argparse
import itertools
import time
from functools import partial

import numpy as np
import torch

from benchmarks.catalogue import CODES, SIZES, random_sids
from benchmarks.common import build_maskgr, save
from maskgr_cli import console
from maskgr_cli.allocator import keep_freed_memory
from pipelines import artifacts
from pipelines.data.catalogue import Catalogue
from pipelines.decode.beam import beam_search
from pipelines.decode.config import Decoding
from pipelines.decode.index import PartialIndex
from pipelines.models.nn.precision import autocast

HISTORY, EVALUATIONS = 20, (3, 1)
WARM_UP = 50  # requests before those that are measured
ENCODED, EXTENDED = "history encoded", "cache extended by the last item"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=500, help="number of measured requests")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="fp32")
    parser.add_argument(
        "--save", action="store_true", help="write the figures to benchmarks/results/latency.json"
    )
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    N = SIZES["12 thousand"]
    sids = random_sids(N)
    model = build_maskgr("small", {}, Catalogue.of(sids, CODES)).eval()
    index, user = PartialIndex(sids, CODES), torch.zeros(1, dtype=torch.int64)
    size = (options.requests + WARM_UP, 1, HISTORY)
    histories = torch.as_tensor(np.random.default_rng(0).integers(0, N, size))
    times: dict[str, list[float]] = {
        f"{how}, T = {T}": [] for T in EVALUATIONS for how in (ENCODED, EXTENDED)
    }
    with torch.inference_mode(), autocast(options.precision, torch.device("cpu")):
        for T, history in itertools.product(EVALUATIONS, histories):
            earlier = model.prefill(history[:, :-1])
            for how in (ENCODED, EXTENDED):
                began = time.perf_counter()
                cache = model.prefill(history) if how == ENCODED else model.extend(earlier, history[:, -1])
                denoiser = model.objective.denoiser(partial(model.states_after, cache), history)
                beam_search(denoiser, user, index, Decoding(nfe=T))
                times[f"{how}, T = {T}"].append(1000 * (time.perf_counter() - began))
    figures = {
        name: {f"p{p}": float(np.percentile(t[WARM_UP:], p)) for p in (50, 99)} for name, t in times.items()
    }
    rows = [(name, f"{f['p50']:.1f}", f"{f['p99']:.1f}") for name, f in figures.items()]
    title = f"Milliseconds for one user, one core, {options.precision}"
    console.table(title, ["", "p50", "p99"], rows, f"{options.requests} requests. {artifacts.machine()}")
    if options.save:
        save("latency", {"unit": "ms", "requests": options.requests, "measured": figures})


if __name__ == "__main__":
    main()
