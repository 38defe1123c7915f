"""Recall@10 of cold targets of runs with `--cold`, beside the items with the most similar texts; and what the
cold items cost the warm targets.

All items are candidates. The reference ranks items by the sum of the cosines of their texts with those of the
last three items of the history, without these three. The cost compares the warm targets with and without the
cold items among the candidates.

    for seed in 0 1 2 3 4; do maskgr train --dataset beauty --cold 0.05 --seed $seed --name cold$seed; done
    python -m benchmarks.cold cold0 cold1 cold2 cold3 cold4
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks.common import save
from maskgr_cli import console
from pipelines import artifacts
from pipelines.data.catalogue import text_behind
from pipelines.data.sequences import load_sequences
from pipelines.data.splits import Split
from pipelines.decode.config import Decoding
from pipelines.decode.index import PartialIndex
from pipelines.errors import UserError
from pipelines.evaluate.capabilities import resolve_decoding
from pipelines.evaluate.metrics import rank_targets
from pipelines.evaluate.recommend import recommend
from pipelines.models.loading import TrainedRun, load_run
from pipelines.progress import Silent
from pipelines.workspace import Workspace

LAST = 3  # items of the history that the reference looks at
DRAWS = 2000  # of the bootstrap


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", help="runs with --cold")
    parser.add_argument("--split", default="test", choices=("validation", "test"))
    parser.add_argument("--workspace", type=Path, default=None)
    parser.add_argument(
        "--save", action="store_true", help="write the figures to benchmarks/results/cold.json"
    )
    options = parser.parse_args()
    workspace = Workspace.find(options.workspace)
    found = [_measure(workspace, name, options.split) for name in options.runs]
    rows = [(name, *_row(*hits)) for name, hits in zip(options.runs, found, strict=True)]
    columns = ["run", "cold", "similar texts", "cold targets", "warm", "without cold items", "cost"]
    title = f"Recall@10 (%) on {options.split}, {artifacts.machine()}"
    console.table(title, columns, rows)
    difference = np.concatenate([own.astype(int) - reference for own, reference, _, _ in found])
    rng = np.random.default_rng(0)
    means = [100 * rng.choice(difference, len(difference)).mean() for _ in range(DRAWS)]
    low, high = np.percentile(means, (2.5, 97.5))
    costs = [1 - warm.mean() / alone.mean() for _, _, warm, alone in found]
    figures = {
        "cold, model − similar texts": f"{100 * difference.mean():+.2f} [{low:+.2f}, {high:+.2f}]",
        "cost, mean and largest": f"{np.mean(costs):.2%}, {max(costs):.2%}",
    }
    console.table("All runs", ["", "value"], list(figures.items()))
    if options.save:
        save("cold", {**figures, "runs": [dict(zip(columns, row, strict=True)) for row in rows]})


def _row(cold: np.ndarray, reference: np.ndarray, warm: np.ndarray, alone: np.ndarray) -> tuple[str, ...]:
    percent = [f"{100 * hits.mean():.2f}" for hits in (cold, reference, warm, alone)]
    return (*percent[:2], f"{len(cold):,}", *percent[2:], f"{1 - warm.mean() / alone.mean():.2%}")


def _measure(
    workspace: Workspace, name: str, split: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return hits among the first ten, bool: of the cold targets by the model and by the reference, of the
    warm targets with and without cold items among the candidates.
    """
    trained = load_run(workspace, workspace.require_run(name), torch.device("cpu"))
    users = trained.split(load_sequences(trained.dataset.sequences, trained.catalogue.items), split)
    is_cold = np.isin(users.first_target, trained.new_items)
    warm_items = np.setdiff1d(np.arange(trained.catalogue.items), trained.new_items)
    everything = _hits(trained, users, None)
    alone = _hits(trained, users, warm_items)
    text = text_behind(trained.inputs["sids"])
    if text is None:
        raise UserError(f"The embeddings that the semantic IDs of {name} were made from are gone.")
    reference = _similar_texts(text, users)
    return everything[is_cold], reference[is_cold], everything[~is_cold], alone[~is_cold]


def _hits(trained: TrainedRun, users: Split, items: np.ndarray | None) -> np.ndarray:
    """Return whether the target is among the model's ten best of some items; None for all: bool [B]."""
    decoding = resolve_decoding(Decoding(beams=10), trained.model)
    subsets = decoding.reachable(trained.catalogue.require_sids().shape[1])
    index = PartialIndex(trained.catalogue.require_sids(), trained.catalogue.codes, subsets, items)
    found = recommend(trained.model, users, index, decoding, Silent(), items=items)
    return rank_targets(found.items, users.targets)[:, 0] > 0


def _similar_texts(text: np.ndarray, users: Split) -> np.ndarray:
    """Return whether the target is among the ten items with the most similar texts: bool [B]."""
    vectors = F.normalize(torch.as_tensor(text))  # [N, E]
    hits = []
    for rows in np.array_split(np.arange(len(users)), max(1, len(users) // 1024)):
        last = torch.as_tensor(users.padded(rows, LAST)).long()  # [B', 3]
        query = (vectors[last.clamp(min=0)] * (last >= 0)[:, :, None]).sum(1)
        similarity = (query @ vectors.T).scatter_(1, last.clamp(min=0), -torch.inf)
        best = similarity.topk(10, dim=1).indices.numpy()
        hits.append((best == users.first_target[rows, None]).any(1))
    return np.concatenate(hits)


if __name__ == "__main__":
    main()
