"""Recall and NDCG, invalid beams and users/s of every way of decoding, on the same test users of a trained
run.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from typing import Any

import torch

from benchmarks.common import save
from maskgr_cli import console
from maskgr_cli.allocator import keep_freed_memory
from pipelines import artifacts
from pipelines.data.sequences import load_sequences
from pipelines.data.splits import Split, histories
from pipelines.decode.config import ORDERS, Decoding
from pipelines.decode.index import PartialIndex
from pipelines.evaluate.metrics import metrics_table, ranks_table
from pipelines.evaluate.recommend import recommend
from pipelines.models.base import DigitModel
from pipelines.models.loading import TrainedRun, load_run
from pipelines.models.nn.precision import autocast
from pipelines.progress import Silent
from pipelines.workspace import Workspace

BASE = Decoding()
RECORDED = ("dataset", "model", "preset", "model_settings", "train", "steps", "seconds", "commit")


def variants(trained: TrainedRun) -> dict[str, Decoding]:
    """Return the decodings that a run supports, named by their difference from the base: greedy, one digit
    per function evaluation, constrained, 20 beams.
    """
    model = trained.model
    assert isinstance(model, DigitModel), "beam search needs a model with semantic IDs"
    S = trained.horizon * model.digits
    changes: dict[str, dict[str, Any]] = {f"greedy, T = {S}, constrained": {}}
    changes |= {unmask: {"unmask": unmask} for unmask in ORDERS if unmask != BASE.order}
    changes |= {f"T = {T}": {"nfe": T} for T in range(1, S)}
    if not model.uses_item_softmax:
        changes |= {"unconstrained": {"constrained": False}}
    if trained.horizon == 1:
        changes |= {f"T = {T}, then {S - T} remasking": {"nfe": T, "remask": S - T} for T in (S - 2, S - 1)}
        changes |= {f"T = {S}, then {more} remasking": {"remask": more} for more in (1, 2)}
    if model.dense_retriever:
        changes |= {f"{retrieval} retrieval": {"retrieval": retrieval} for retrieval in ("dense", "unified")}
    if not model.encodes_once:
        changes |= {"histories encoded once (approximate)": {"approximate": True}}
    if trained.training.get("history_dropout"):
        changes |= {f"guidance w = {w}": {"guidance": w} for w in (0.25, 0.5, 1.0)}
    return {name: dataclasses.replace(BASE, **change) for name, change in changes.items()}


def measure(
    trained: TrainedRun, users: Split, index: PartialIndex, decoding: Decoding, device: torch.device
) -> dict[str, float]:
    """Return the metrics, half the width of the interval of Recall@10, and users/s."""
    began = time.perf_counter()
    with autocast("auto", device):
        result = recommend(trained.model, users, index, decoding, Silent())
    speed = len(users) / (time.perf_counter() - began)
    ranks = ranks_table(users, result.items, result.invalid, result.duplicates)
    rows = metrics_table(ranks, decoding.beams).to_pylist()
    values = {f"{r['metric']}@{r['k']}" if r["k"] else r["metric"]: r["value"] for r in rows}
    recall = next(r for r in rows if (r["metric"], r["k"]) == ("recall", 10))
    return {**values, "recall@10 half interval": (recall["high"] - recall["low"]) / 2, "users/s": speed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="trained run of the workspace")
    parser.add_argument("--users", type=int, default=2000, help="number of test users, sampled once")
    parser.add_argument(
        "--save", action="store_true", help="write the figures to benchmarks/results/variants-RUN.json"
    )
    options = parser.parse_args()
    keep_freed_memory()
    workspace, device = Workspace.find(), torch.device("cpu")
    trained = load_run(workspace, workspace.require_run(options.run), device)
    everyone = histories(load_sequences(trained.dataset.sequences), "test", trained.horizon)
    users = everyone.sample(options.users, seed=0)
    index = PartialIndex(trained.catalogue.require_sids(), trained.catalogue.codes)
    figures, rows = {}, []
    for name, decoding in variants(trained).items():
        figures[name] = values = measure(trained, users, index, decoding, device)
        percent = (f"{100 * values[key]:.2f}" for key in ("recall@10", "ndcg@10", "invalid_rate"))
        rows.append((name, *percent, f"{values['users/s']:.0f}"))
        console.note(" · ".join(map(str, rows[-1])))
    title = f"{options.run}: {len(users):,} of {len(everyone):,} test users, 20 beams, percent"
    console.table(title, ["decoding", "R@10", "N@10", "invalid", "users/s"], rows, artifacts.machine())
    if options.save:
        config = artifacts.read_json(workspace.require_run(options.run).config)
        run = {key: config[key] for key in RECORDED}
        counts = {"users": len(users), "of": len(everyone)}
        save(f"variants-{options.run}", {"run": run, **counts, "measured": figures})


if __name__ == "__main__":
    main()
