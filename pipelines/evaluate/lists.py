"""Properties of recommendation lists beside their accuracy: coverage, concentration, novelty and diversity.

Shapes: B lists, K items of each, N items of the catalogue, E width of the text embeddings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.artifact_parts import read_parts
from pipelines.schemas import SCHEMAS

DEPTH = 10  # items of a list that are measured
CELLS = 1 << 24  # numbers of embeddings held at once


def read_lists(folder: Path, horizon: int = 1, depth: int = DEPTH) -> Iterator[NDArray[np.int32]]:
    """Yield the first items of the lists of an evaluation, a chunk of users at a time.

    Args:
        folder: folder of the evaluation.
        horizon: k; each position has a list of its own.
        depth: number of items.

    Returns:
        int32 [B · k, depth], −1 where a beam is no item, and after the end of a list.

    Raises:
        UserError: there is no evaluation in `folder`, or it cannot be read.
    """
    parts = read_parts(folder / "recommendations.parquet", "recommendations", hint="Run `maskgr eval` first.")
    for table in parts:
        lists = table.column("items").combine_chunks()
        items = np.append(lists.values.fill_null(-1).to_numpy(zero_copy_only=False), -1).astype(np.int32)
        begins, ends = lists.offsets.to_numpy()[:-1], lists.offsets.to_numpy()[1:]
        places = (
            begins[:, None, None] + np.arange(depth) * horizon + np.arange(horizon)[:, None]
        )  # [B, k, depth]
        yield items[np.where(places < ends[:, None, None], places, -1)].reshape(-1, depth)


def measure_lists(
    lists: Iterable[NDArray[np.int32]], counts: np.ndarray, text: np.ndarray | None = None
) -> pa.Table:
    """Measure lists.

    - coverage: share of the catalogue that is in a list (Ge, Delgado-Battenfeld and Jannach, RecSys 2010).
    - gini: Gini index of the numbers of lists that the items are in, 0 if all are in equally many, 1 if one
      item is in all (Shani and Gunawardana, Recommender Systems Handbook 2011): for the shares p of the
      items in ascending order, Σ (2j − N − 1) p_j / (N − 1).
    - novelty: mean self-information of the items, −log2 of their share of the training interactions, in bits
      (Castells, Vargas and Wang, DDR 2011); an item without an interaction counts as having one.
    - diversity: mean of 1 − cosine of the text embeddings over the pairs of a list (Ziegler et al., WWW
      2005, with a distance in place of the similarity). The cosine with an item that has no text is 0.

    Novelty and diversity are means over the lists; lists without an item, for diversity without a pair, are
    left out.

    Args:
        lists: items, best first, int32 [B, K] in parts; −1 for none.
        counts: number of training interactions of each item, int64 [N].
        text: text embeddings, float32 [N, E]; None to leave the diversity out.

    Returns:
        Artifact of kind "metrics" without intervals; "users" is the number of lists.
    """
    N, depth, users = len(counts), 0, 0
    recommended = np.zeros(N, np.int64)
    information = np.log2(max(1, counts.sum()) / np.maximum(counts, 1))  # [N], bits
    unit = None if text is None else text / np.maximum(np.linalg.norm(text, axis=1, keepdims=True), 1e-12)
    novelty, diversity = [np.zeros(0)], [np.zeros(0)]
    for items in lists:
        depth, users = items.shape[1], users + len(items)
        recommended += np.bincount(items[items >= 0], minlength=N)
        sizes = (items >= 0).sum(1)  # [B]
        sums = np.where(items >= 0, information[items], 0.0).sum(1)
        novelty.append(sums[sizes > 0] / sizes[sizes > 0])
        if unit is not None:
            diversity.append(_diversity(items[sizes > 1], unit))
    shares = np.sort(recommended) / max(1, recommended.sum())
    values = {
        "coverage": np.mean(recommended > 0),
        "gini": (2 * np.arange(1, N + 1) - N - 1) @ shares / max(1, N - 1),
        "novelty": _mean(novelty),
        **({} if unit is None else {"diversity": _mean(diversity)}),
    }
    columns = {
        "metric": list(values),
        "k": [depth] * len(values),
        "value": [float(value) for value in values.values()],
        "low": [None] * len(values),
        "high": [None] * len(values),
        "users": [users] * len(values),
    }
    return pa.table({name: pa.array(columns[name], kind) for name, kind in SCHEMAS["metrics"].items()})


def _diversity(items: NDArray[np.int32], unit: np.ndarray) -> NDArray[np.float64]:
    """Return the mean of 1 − cosine over the pairs of each list, float64 [B].

    The sum over the pairs follows from the length of the sum of a list's vectors.

    Args:
        items: int32 [B, K], −1 for none, at least two items in each list.
        unit: vectors of length 1 or 0, float32 [N, E].
    """
    step, found = max(1, CELLS // (items.shape[1] * unit.shape[1])), [np.zeros(0)]
    for part in (items[start : start + step] for start in range(0, len(items), step)):
        vectors = np.where(part[:, :, None] >= 0, unit[part], 0.0).astype(np.float64)  # [b, K, E]
        of_sums, of_items = (vectors.sum(1) ** 2).sum(1), (vectors**2).sum((1, 2))  # [b]
        sizes = (part >= 0).sum(1)
        found.append(1 - (of_sums - of_items) / (sizes * (sizes - 1)))
    return np.concatenate(found)


def _mean(parts: list[np.ndarray]) -> float:
    """Return the mean of all parts; 0 where they are empty."""
    values = np.concatenate(parts)
    return float(values.mean()) if len(values) else 0.0
