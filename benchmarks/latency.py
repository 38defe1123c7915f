"""One user's answer on one core: `small` preset, 20 items of history, 20 beams, three evaluations and one."""

from __future__ import annotations

import argparse
import itertools
import time
from functools import partial

import numpy as np
import torch

from benchmarks.catalogue import CODES, SIZES, catalogue
from benchmarks.common import save
from maskgr_cli import console
from maskgr_cli.allocator import keep_freed_memory
from pipelines import artifacts
from pipelines.data.catalogue import Catalogue
from pipelines.decode.beam import beam_search
from pipelines.decode.config import Decoding
from pipelines.decode.index import PartialIndex
from pipelines.models import loading
from pipelines.models.nn.precision import autocast
from pipelines.train.configure import configure

HISTORY, EVALUATIONS = 20, (3, 1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="fp32")
    parser.add_argument(
        "--save", action="store_true", help="write the figures to benchmarks/results/latency.json"
    )
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    N = SIZES["12 thousand"]
    sids = catalogue(N)
    model_settings, _ = configure("maskgr", "small", {})
    model = loading.build(model_settings, Catalogue.of(sids, CODES)).eval()
    index, user = PartialIndex(sids, CODES), torch.zeros(1, dtype=torch.int64)
    histories = torch.as_tensor(np.random.default_rng(0).integers(0, N, (options.requests + 50, 1, HISTORY)))
    times: dict[str, list[float]] = {
        f"{how}, T = {T}": []
        for T in EVALUATIONS
        for how in ("history encoded", "cache extended by the last item")
    }
    with torch.inference_mode(), autocast(options.precision, torch.device("cpu")):
        for T, history in itertools.product(EVALUATIONS, histories):
            before = model.prefill(history[:, :-1])
            for how in ("history encoded", "cache extended by the last item"):
                began = time.perf_counter()
                cache = (
                    model.prefill(history)
                    if how == "history encoded"
                    else model.extend(before, history[:, -1])
                )
                beam_search(
                    model.expecting(partial(model.states_after, cache), history), user, index, Decoding(nfe=T)
                )
                times[f"{how}, T = {T}"].append(1000 * (time.perf_counter() - began))
    figures = {
        name: {f"p{p}": float(np.percentile(t[50:], p)) for p in (50, 99)} for name, t in times.items()
    }
    rows = [(name, f"{f['p50']:.1f}", f"{f['p99']:.1f}") for name, f in figures.items()]
    title = f"Milliseconds for one user, one core, {options.precision}"
    console.table(title, ["", "p50", "p99"], rows, f"{options.requests} requests. {artifacts.machine()}")
    if options.save:
        save("latency", {"unit": "ms", "requests": options.requests, "measured": figures})


if __name__ == "__main__":
    main()
