"""What an evaluation measures beside the metrics of all users: properties of lists, groups of targets.

It is computed from the files of the evaluation and not stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import artifacts
from pipelines.artifact_parts import read_parts
from pipelines.data.catalogue import load_text
from pipelines.data.held_out import HeldOut
from pipelines.data.splits import Split
from pipelines.errors import reading
from pipelines.evaluate.config import EvalConfig
from pipelines.evaluate.groups import grouped_metrics, grouping
from pipelines.evaluate.lists import DEPTH, measure_lists, read_lists
from pipelines.evaluate.popularity import popularity_ranks, recommend_popular
from pipelines.evaluate.report import read_metrics
from pipelines.evaluate.unseen import Unseen, without_seen
from pipelines.workspace import Dataset

MOST = 1 << 28  # numbers of the embeddings that are held in memory, at most
Groups = list[tuple[str, pa.Table]]  # label and metrics of each group


@dataclass(frozen=True, eq=False)
class Beside:
    """Measures beside Recall and NDCG, each of the recommendations and of the most popular items.

    Attributes:
        lists, popularity_lists: properties of the lists, artifacts of kind "metrics"; see `measure_lists`.
        groups, popularity_groups: metrics of groups of targets; empty without `EvalConfig.by`.
        embeddings: name of the embeddings that the diversity is measured by; None if there are none.
        unseen: metrics without the items of the histories; None if those do not change Recall or NDCG by more
            than their intervals, or were left out of the lists.
    """

    lists: pa.Table
    popularity_lists: pa.Table
    groups: Groups
    popularity_groups: Groups
    embeddings: str | None
    unseen: Unseen | None


def measure_beside(
    folder: Path, users: Split | HeldOut, counts: np.ndarray, config: EvalConfig, dataset: Dataset
) -> Beside:
    """Measure the lists and the groups of an evaluation.

    The diversity is of the newest embeddings of the data set, if they fit into memory.

    Args:
        folder: folder of the evaluation.
        users: its users.
        counts: number of training interactions of each item, int64 [N].
        config: its settings, with the number of beams.
        dataset: data set of the items.

    Raises:
        UserError: a file cannot be read.
    """
    beams, exclude_seen = config.decoding.beams, config.decoding.exclude_seen
    path = _embeddings(dataset, len(counts))
    text = None if path is None else load_text(path)
    popular = (recommend_popular(counts, split, DEPTH, exclude_seen) for split in users.chunks())
    groups: Groups = []
    popularity_groups: Groups = []
    if config.by:
        made = grouping(config.by, users, counts)
        groups = grouped_metrics(made, lambda: read_parts(folder / "ranks.parquet", "ranks"), beams)
        popularity_groups = grouped_metrics(
            made,
            lambda: (popularity_ranks(counts, split, beams, exclude_seen) for split in users.chunks()),
            beams,
        )
    return Beside(
        measure_lists(read_lists(folder, config.horizon or 1), counts, text),
        measure_lists(popular, counts, text),
        groups,
        popularity_groups,
        None if path is None else path.stem,
        None if exclude_seen or (config.horizon or 1) > 1 else _unseen(folder, users, beams),
    )


def _unseen(folder: Path, users: Split | HeldOut, beams: int) -> Unseen | None:
    """Return the metrics without the items of the histories, if they differ by more than the intervals."""
    measured = {(row["metric"], row["k"]): row for row in read_metrics(folder).to_pylist()}
    result = without_seen(folder, users, beams)
    for row in result.metrics.to_pylist():
        with_seen = measured.get((row["metric"], row["k"]))
        if with_seen and not with_seen["low"] <= row["value"] <= with_seen["high"]:
            return result
    return None


def _embeddings(dataset: Dataset, items: int) -> Path | None:
    """Return the newest embeddings of a data set; None if there are none, or they are too large or of other
    items.
    """
    if not dataset.all_embeddings:
        return None
    path = dataset.require_embeddings()
    with reading(path, "Parquet file", "Run `maskgr embed --force`."):
        kind = pq.read_schema(path).field("embedding").type
    fits = pa.types.is_fixed_size_list(kind) and items * kind.list_size <= MOST
    return path if fits and artifacts.count(path) == items else None
