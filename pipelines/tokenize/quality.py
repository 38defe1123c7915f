"""Quality report of semantic IDs, to be read before they are used for a long training."""

from __future__ import annotations

import faiss
import numpy as np
import pyarrow as pa

NEIGHBORS = 10
QUERIES = 10_000  # largest number of items whose neighbors are searched


def quality_table(
    vectors: np.ndarray | None,
    codes: np.ndarray,
    group: np.ndarray,
    relative_error: list[float] | None,
    codebook: int,
    rows: np.ndarray | None = None,
) -> pa.Table:
    """Measure the quality of semantic IDs.

    Measures of each digit (level 0 … m−1):
    - `codes_used`: number of codes that occur.
    - `entropy`: entropy of the code frequencies in bits; `entropy_share`: the same as a share of log2 V.
    - `relative_error`: relative quantization error, if there is one.

    Measures of whole SIDs (level −1):
    - `items`: N.
    - `collisions`: number of items that share all m codes with another item; `largest_group`: size of the
    largest group of
      such items.
    - `neighbour_agreement`: mean share of an item's ten nearest neighbors (L2 distance of the clustered
    vectors) that have its
      first code; `chance_agreement`: the same for two items drawn at random.

    Args:
        vectors: clustered vectors of some items, float32 [n, D], among which neighbors are searched; None if
            there are none, without which `neighbour_agreement` is left out.
        codes: int64 [N, m].
        group: number of each item's group of equal codes, int64 [N].
        relative_error: relative quantization error after each digit, m values; None if the codes do not
            depend on the vectors.
        codebook: V.
        rows: items of the vectors, int64 [n]; None for all.

    Returns:
        artifact of kind "quality".
    """
    sizes = np.bincount(group)
    whole = {
        "items": len(codes),
        "collisions": sizes[sizes > 1].sum(),
        "largest_group": sizes.max(),
    }
    if vectors is not None:
        whole["neighbour_agreement"] = neighbor_agreement(
            vectors, codes[:, 0] if rows is None else codes[rows, 0]
        )
    whole["chance_agreement"] = chance_agreement(codes[:, 0])
    found = [(-1, measure, float(value)) for measure, value in whole.items()]
    for level, column in enumerate(codes.T):
        counts = np.unique(column, return_counts=True)[1]
        shares = counts / counts.sum()
        entropy = -float(shares @ np.log2(shares))
        found += [
            (level, "codes_used", float(len(counts))),
            (level, "entropy", entropy),
            (level, "entropy_share", entropy / np.log2(codebook)),
        ]
        if relative_error is not None:
            found.append((level, "relative_error", relative_error[level]))
    levels, measures, values = zip(*found, strict=True)
    return pa.table(
        {
            "level": pa.array(levels, pa.int32()),
            "measure": list(measures),
            "value": pa.array(values, pa.float64()),
        }
    )


def neighbor_agreement(vectors: np.ndarray, first: np.ndarray) -> float:
    """Return the mean share of an item's nearest neighbors that have the item's first code.

    The search is exact, for ten neighbors, or for all other items if there are fewer. In a larger catalogue
    than `QUERIES`, the mean is over that many items, evenly spaced.

    Args:
        vectors: float32 [N, D] with N ≥ 2.
        first: first codes, int64 [N].
    """
    nearest = min(NEIGHBORS, len(vectors) - 1)
    queries = np.linspace(0, len(vectors) - 1, min(QUERIES, len(vectors))).astype(np.int64)  # [Q]
    index: faiss.Index = faiss.IndexFlatL2(vectors.shape[1])
    if faiss.get_num_gpus():
        index = faiss.index_cpu_to_all_gpus(index)
    index.add(vectors)
    _, items = index.search(vectors[queries], nearest + 1)  # [Q, nearest + 1], usually with the query itself
    query_last = np.argsort(items == queries[:, None], axis=1, kind="stable")  # [Q, nearest + 1]
    neighbors = np.take_along_axis(items, query_last, axis=1)[:, :nearest]  # [Q, nearest]
    return float(np.mean(first[neighbors] == first[queries][:, None]))


def chance_agreement(first: np.ndarray) -> float:
    """Return the probability that two different items drawn at random have the same first code.

    Args:
        first: first codes, int64 [N] with N ≥ 2.
    """
    counts = np.bincount(first).astype(np.float64)
    return float(counts @ (counts - 1) / (len(first) * (len(first) - 1)))
