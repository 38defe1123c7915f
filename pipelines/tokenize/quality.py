"""What to know about semantic IDs before spending GPU hours on them."""

from __future__ import annotations

import faiss
import numpy as np
import pyarrow as pa

NEIGHBOURS = 10
QUERIES = 10_000  # items whose neighbours are searched; all items where there are fewer


def quality_table(
    vectors: np.ndarray, codes: np.ndarray, group: np.ndarray, error: list[float] | None, codebook: int
) -> pa.Table:
    """Measure semantic IDs; an artifact of kind "quality".

    Per digit (level 0…m−1): `codes_used`; `entropy` of the code frequencies in bits, and as `entropy_share` of
    log2 V; `relative_error`, the share of energy left, where there is one. For whole SIDs (level −1): `items`; `collisions`, items
    that share all m codes with another; `largest_group` of such items; `neighbour_agreement`, the mean share of
    an item's ten nearest neighbours (L2 among the clustered vectors) that have its first code, and
    `chance_agreement`, the same for two items drawn at random.

    Args:
        vectors: what was clustered, float32 [N, D].
        codes: int64 [N, m].
        group: the number of each item's group of equal codes, int64 [N].
        error: relative error after each digit, m values; None where codes say nothing of the vectors.
    """
    sizes = np.bincount(group)
    whole = {
        "items": len(codes),
        "collisions": sizes[sizes > 1].sum(),
        "largest_group": sizes.max(),
        "neighbour_agreement": neighbour_agreement(vectors, codes[:, 0]),
        "chance_agreement": chance_agreement(codes[:, 0]),
    }
    rows = [(-1, measure, float(value)) for measure, value in whole.items()]
    for level, column in enumerate(codes.T):
        counts = np.unique(column, return_counts=True)[1]
        shares = counts / counts.sum()
        entropy = -float(shares @ np.log2(shares))
        rows += [
            (level, "codes_used", float(len(counts))),
            (level, "entropy", entropy),
            (level, "entropy_share", entropy / np.log2(codebook)),
            *([] if error is None else [(level, "relative_error", error[level])]),
        ]
    levels, measures, values = zip(*rows, strict=True)
    return pa.table(
        {
            "level": pa.array(levels, pa.int32()),
            "measure": list(measures),
            "value": pa.array(values, pa.float64()),
        }
    )


def neighbour_agreement(vectors: np.ndarray, first: np.ndarray) -> float:
    """The mean share of items' nearest neighbours that have the item's own first code.

    Exact search; ten neighbours (all others where there are fewer), of 10,000 items evenly spread over the
    catalogue where it is larger.

    Args:
        vectors: float32 [N, D] with N ≥ 2.
        first: int64 [N].
    """
    nearest = min(NEIGHBOURS, len(vectors) - 1)
    queries = np.linspace(0, len(vectors) - 1, min(QUERIES, len(vectors))).astype(np.int64)
    index = faiss.IndexFlatL2(vectors.shape[1])
    if faiss.get_num_gpus():
        index = faiss.index_cpu_to_all_gpus(index)
    index.add(vectors)
    found = index.search(vectors[queries], nearest + 1)[
        1
    ]  # [queries, nearest + 1], the item itself among them
    self_last = np.argsort(found == queries[:, None], axis=1, kind="stable")
    neighbours = np.take_along_axis(found, self_last, axis=1)[:, :nearest]
    return float(np.mean(first[neighbours] == first[queries][:, None]))


def chance_agreement(first: np.ndarray) -> float:
    """The probability that two different items drawn at random have the same first code."""
    counts = np.bincount(first).astype(np.float64)
    return float(counts @ (counts - 1) / (len(first) * (len(first) - 1)))
