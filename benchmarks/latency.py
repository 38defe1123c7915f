"""One user's answer on one core: `small` preset, 20 items of history, 20 beams, three evaluations."""

from __future__ import annotations

import argparse
import time
from functools import partial

import numpy as np
import torch

from benchmarks.catalogue import CODES, SIZES, catalogue
from benchmarks.common import save
from maskgr_cli import console
from maskgr_cli.allocator import keep_freed_memory
from maskgr_cli.commands.train import configure
from pipelines import artifacts
from pipelines.decode.beam import beam_search
from pipelines.decode.config import Decoding
from pipelines.decode.index import PartialIndex
from pipelines.models import registry
from pipelines.models.precision import autocast

HISTORY = 20


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="fp32")
    parser.add_argument("--save", action="store_true", help="write the figures to benchmarks/results/latency.json")
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    N = SIZES["12 thousand"]
    sids = catalogue(N)
    sizes, _ = configure("small", {})
    model = registry.build("maskgr", sizes, sids, CODES).eval()
    index, decoding, user = PartialIndex(sids, CODES), Decoding(nfe=3), torch.zeros(1, dtype=torch.int64)
    histories = torch.as_tensor(np.random.default_rng(0).integers(0, N, (options.requests + 50, 1, HISTORY)))
    times: dict[str, list[float]] = {"history encoded, then decoded": [], "cache extended by the last item, then decoded": []}
    with torch.inference_mode(), autocast(options.precision, torch.device("cpu")):
        for history in histories:
            began = time.perf_counter()
            cache = model.remember(history)
            beam_search(model.expecting(partial(model.states_after, cache)), user, index, decoding)
            between = time.perf_counter()
            cache = model.remember(history[:, :-1])
            again = time.perf_counter()
            cache = model.extend(cache, history[:, -1])
            beam_search(model.expecting(partial(model.states_after, cache)), user, index, decoding)
            for name, seconds in zip(times, (between - began, time.perf_counter() - again), strict=True):
                times[name].append(1000 * seconds)
    figures = {name: {f"p{p}": float(np.percentile(t[50:], p)) for p in (50, 99)} for name, t in times.items()}
    rows = [(name, f"{f['p50']:.1f}", f"{f['p99']:.1f}") for name, f in figures.items()]
    title = f"Milliseconds for one user, one core, {options.precision}"
    console.table(title, ["", "p50", "p99"], rows, f"{options.requests} requests. {artifacts.machine()}")
    if options.save:
        save("latency", {"unit": "ms", "requests": options.requests, "measured": figures})


if __name__ == "__main__":
    main()
