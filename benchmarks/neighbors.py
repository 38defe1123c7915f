"""Share of users whose next item is among the nearest neighbors of their last training item, for all
embeddings of a data set: validation, cosine similarity.
"""

from __future__ import annotations

import argparse

import faiss
import numpy as np

from maskgr_cli import console
from pipelines import artifacts
from pipelines.data.sequences import load_sequences
from pipelines.data.splits import histories
from pipelines.workspace import Workspace


def share_found(vectors: np.ndarray, last: np.ndarray, following: np.ndarray, count: int) -> float:
    """Return the share of users whose next item is a neighbor of their last item.

    Args:
        vectors: float32 [N, E].
        last: last training item of each user, int [B].
        following: validation item of each user, int [B].
        count: number of neighbors, without the item itself.
    """
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    index = faiss.IndexFlatIP(unit.shape[1])
    index.add(np.ascontiguousarray(unit))
    items = np.unique(last)
    found = np.full((len(vectors), count + 1), -1)
    found[items] = index.search(unit[items], count + 1)[1]
    near = found[last]  # [B, count + 1]
    itself_last = np.argsort(near == last[:, None], axis=1, kind="stable")[:, :count]
    near = np.take_along_axis(near, itself_last, axis=1)  # [B, count]
    return float((near == following[:, None]).any(1).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="beauty", help="data set")
    parser.add_argument("--count", type=int, default=10, help="number of neighbors")
    options = parser.parse_args()
    data = Workspace.find().require_dataset(options.dataset)
    split = histories(load_sequences(data.sequences), "validation")
    last = split.items[split.offsets[1:] - 1]  # [B]
    rows = []
    for path in data.all_embeddings:
        vectors = artifacts.matrix(artifacts.read(path, "embeddings"), "embedding", path).astype(np.float32)
        rows.append((path.stem, f"{share_found(vectors, last, split.first_target, options.count):.2%}"))
    columns = ["embeddings", f"next item among {options.count} neighbors"]
    console.table(f"Neighbors, {data.name}, {len(last):,} users", columns, rows)


if __name__ == "__main__":
    main()
