"""What each way of decoding does to a trained run: Recall and NDCG, invalid beams and users/s, over the same test users."""

from __future__ import annotations

import argparse
import dataclasses
import time

import torch

from benchmarks.common import save
from maskgr_cli import console
from maskgr_cli.allocator import keep_freed_memory
from pipelines import artifacts
from pipelines.data.sequences import load_sequences
from pipelines.data.splits import histories
from pipelines.decode.config import ORDERS, Decoding
from pipelines.decode.index import PartialIndex
from pipelines.evaluate.metrics import metrics_table, ranks_table
from pipelines.evaluate.recommend import recommend
from pipelines.models.loading import Trained, load_run
from pipelines.models.nn.precision import autocast
from pipelines.progress import Silent
from pipelines.workspace import Workspace

BASE = Decoding()


def variants(trained: Trained) -> dict[str, Decoding]:
    """The decodings that a run can do, by what they change of greedy, one digit an evaluation, constrained, 20 beams."""
    S = trained.horizon * trained.model.digits
    changes: dict[str, dict] = {f"greedy, T = {S}, constrained": {}}
    changes |= {unmask: {"unmask": unmask} for unmask in ORDERS if unmask != BASE.order}
    changes |= {f"T = {T}": {"nfe": T} for T in range(1, S)}
    if not trained.model.uses_item_softmax:
        changes |= {"unconstrained": {"constrained": False}}
    if trained.horizon == 1:
        changes |= {f"T = {T}, then {S - T} remasking": {"nfe": T, "remask": S - T} for T in (S - 2, S - 1)}
        changes |= {f"T = {S}, then {more} remasking": {"remask": more} for more in (1, 2)}
    if trained.model.dense:
        changes |= {f"{retrieval} retrieval": {"retrieval": retrieval} for retrieval in ("dense", "unified")}
    if not trained.model.prefix:
        changes |= {"histories encoded once (approximate)": {"approximate": True}}
    if trained.training.get("history_dropout"):
        changes |= {f"guidance w = {w}": {"guidance": w} for w in (0.25, 0.5, 1.0)}
    return {name: dataclasses.replace(BASE, **change) for name, change in changes.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", help="a trained run of the workspace")
    parser.add_argument("--users", type=int, default=2000, help="test users, drawn once")
    parser.add_argument(
        "--save", action="store_true", help="write the figures to benchmarks/results/variants-RUN.json"
    )
    options = parser.parse_args()
    keep_freed_memory()
    workspace, device = Workspace.find(), torch.device("cpu")
    trained = load_run(workspace, workspace.require_run(options.run), device)
    everyone = histories(load_sequences(trained.dataset.sequences), "test", trained.horizon)
    users = everyone.sample(options.users, seed=0)
    index = PartialIndex(trained.catalogue.sids, trained.catalogue.codes)
    figures, rows = {}, []
    for name, decoding in variants(trained).items():
        began = time.perf_counter()
        with autocast("auto", device):
            found = recommend(trained.model, users, index, decoding, Silent())
        speed = len(users) / (time.perf_counter() - began)
        table = metrics_table(
            ranks_table(users, found.items, found.invalid, found.duplicates), decoding.beams
        )
        values = {f"{r['metric']}@{r['k']}" if r["k"] else r["metric"]: r["value"] for r in table.to_pylist()}
        half = next(
            (r["high"] - r["low"]) / 2 for r in table.to_pylist() if (r["metric"], r["k"]) == ("recall", 10)
        )
        figures[name] = {**values, "recall@10 half interval": half, "users/s": speed}
        shown = (f"{100 * values[key]:.2f}" for key in ("recall@10", "ndcg@10", "invalid_rate"))
        rows.append((name, *shown, f"{speed:.0f}"))
        console.note(" · ".join(map(str, rows[-1])))
    title = f"{options.run}: {len(users):,} of {len(everyone):,} test users, 20 beams, percent"
    console.table(title, ["decoding", "R@10", "N@10", "invalid", "users/s"], rows, artifacts.machine())
    if options.save:
        plan = artifacts.read_json(workspace.require_run(options.run).config)
        made = {
            key: plan[key]
            for key in ("dataset", "model", "preset", "model_settings", "train", "steps", "seconds", "commit")
        }
        save(
            f"variants-{options.run}",
            {"run": made, "users": len(users), "of": len(everyone), "measured": figures},
        )


if __name__ == "__main__":
    main()
