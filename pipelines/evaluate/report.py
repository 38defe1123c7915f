"""What an evaluation leaves behind: recommendations and ranks per user, and the metrics computed from them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines import artifacts
from pipelines.data.splits import Split
from pipelines.durable import together
from pipelines.evaluate.metrics import metrics_table, ranks_table


def write_evaluation(
    folder: Path,
    *,
    split: Split,
    recommended: np.ndarray,
    scores: np.ndarray,
    invalid: np.ndarray,
    duplicates: np.ndarray,
    config: Mapping[str, Any],
    inputs: Mapping[str, Path],
    seconds: float,
) -> Path:
    """Write recommendations.parquet, ranks.parquet and, from what ranks.parquet then holds, metrics.parquet.

    The three replace those of the folder together; if anything fails, what was there stays as it was.

    Args:
        folder: where they will lie.
        split: the users that were evaluated, with their targets.
        recommended: items, best first, int [B, K, k]; −1 for what is no item.
        scores: log-probabilities, float [B, K].
        invalid: beams of each user that are no item, int [B].
        duplicates: beams of each user that repeat an earlier one, int [B].
        config: the full configuration, seed included.
        inputs: name → path of what the recommendations were made from.
        seconds: wall time of making them.

    Returns:
        the folder.
    """
    provenance = {"config": config, "inputs": inputs, "started": time.monotonic() - seconds}
    with together(folder) as new:
        artifacts.write(
            new / "recommendations.parquet",
            "recommendations",
            _recommendations(split.users, recommended, scores),
            **provenance,
        )
        ranks = artifacts.write(
            new / "ranks.parquet", "ranks", ranks_table(split, recommended, invalid, duplicates), **provenance
        )
        metrics = metrics_table(artifacts.read(ranks, "ranks"), recommended.shape[1])
        artifacts.write(
            new / "metrics.parquet",
            "metrics",
            metrics,
            **{**provenance, "inputs": {**inputs, "ranks": ranks}},
        )
    return folder


def read_metrics(folder: Path) -> pa.Table:
    """The metrics of one evaluation, an artifact of kind "metrics".

    Raises:
        UserError: there is no evaluation in `folder`, or it cannot be read.
    """
    return artifacts.read(folder / "metrics.parquet", "metrics", hint="Run `maskgr eval` first.")


def _recommendations(users: np.ndarray, recommended: np.ndarray, scores: np.ndarray) -> pa.Table:
    """Every beam in its place, the k items of a beam together, null for what is no item. Where there is no beam, there is no place."""
    k, beam = recommended.shape[2], np.isfinite(scores)
    ends = np.concatenate([[0], np.cumsum(beam.sum(axis=1))])
    flat = recommended[beam].ravel()
    items = pa.ListArray.from_arrays(
        pa.array(ends * k, pa.int32()), pa.array(flat, pa.int32(), mask=flat < 0)
    )
    lists = {
        "items": items,
        "scores": pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(scores[beam], pa.float32())),
    }
    return pa.table({"user": pa.array(users, pa.int32()), **lists})
