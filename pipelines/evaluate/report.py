"""Artifacts of an evaluation: recommendations and ranks per user, and the metrics computed from the ranks."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pipelines import artifacts
from pipelines.data.splits import Split
from pipelines.durable import together
from pipelines.evaluate.metrics import metrics_table, ranks_table

if TYPE_CHECKING:
    from pipelines.evaluate.recommend import Recommendations


def write_evaluation(
    folder: Path,
    *,
    split: Split,
    recommendations: Recommendations,
    config: Mapping[str, Any],
    inputs: Mapping[str, Path],
    seconds: float,
    by_warmth: bool = False,
) -> Path:
    """Write recommendations.parquet, ranks.parquet and metrics.parquet, which is computed from ranks.parquet.

    The three files replace those in the folder together. If anything fails, the old files stay as they are.

    Args:
        folder: folder of the evaluation.
        split: users that were evaluated, with their targets.
        recommendations: recommendations to these users.
        config: full configuration, including the seed.
        inputs: name → path of each file from which the recommendations were made.
        seconds: duration of the decoding.
        by_warmth: if true, the metrics of cold targets and of warm targets are written too.

    Returns:
        `folder`.

    Raises:
        UserError: a count lies outside 0 … K, or the files cannot be written.
    """
    write = functools.partial(artifacts.write, config=config, started=time.monotonic() - seconds)
    with together(folder) as new:
        table = _recommendations_table(split.users, recommendations)
        write(new / "recommendations.parquet", "recommendations", table, inputs=inputs)
        table = ranks_table(split, recommendations.items, recommendations.invalid, recommendations.duplicates)
        ranks = write(new / "ranks.parquet", "ranks", table, inputs=inputs)
        table = metrics_table(
            artifacts.read(ranks, "ranks"),
            recommendations.items.shape[1],
            warm_items=split.warm_items if by_warmth else None,
        )
        write(new / "metrics.parquet", "metrics", table, inputs={**inputs, "ranks": ranks})
    return folder


def read_metrics(folder: Path) -> pa.Table:
    """Read the metrics of an evaluation, an artifact of kind "metrics".

    Raises:
        UserError: there is no evaluation in `folder`, or it cannot be read.
    """
    return artifacts.read(folder / "metrics.parquet", "metrics", hint="Run `maskgr eval` first.")


def _recommendations_table(users: np.ndarray, recommendations: Recommendations) -> pa.Table:
    """Return an artifact of kind "recommendations".

    The items of a user are listed beam by beam, with the k items of a beam side by side and null for an
    invalid item. A place without a beam (score −inf) is left out.
    """
    scores, k = recommendations.scores, recommendations.items.shape[2]
    is_beam = np.isfinite(scores)  # [B, K]
    ends = np.concatenate([[0], np.cumsum(is_beam.sum(axis=1))])  # [B + 1]
    flat = recommendations.items[is_beam].ravel()  # [beams · k]
    items = pa.array(flat, pa.int32(), mask=flat < 0)
    lists = {
        "items": pa.ListArray.from_arrays(pa.array(ends * k, pa.int32()), items),
        "scores": pa.ListArray.from_arrays(
            pa.array(ends, pa.int32()), pa.array(scores[is_beam], pa.float32())
        ),
    }
    return pa.table({"user": pa.array(users, pa.int32()), **lists})
