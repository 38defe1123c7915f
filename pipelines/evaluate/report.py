"""Artifacts of an evaluation: recommendations and ranks per user, and the metrics computed from the ranks."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pipelines import artifacts
from pipelines.artifact_parts import Parts, read_parts, write_parts
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
    beams, started = recommendations.items.shape[1], time.monotonic() - seconds
    warm_items = split.warm_items if by_warmth else None
    with evaluation_files(
        folder, beams, config=config, inputs=inputs, started=started, warm_items=warm_items
    ) as files:
        files.add(split, recommendations)
    return folder


class Files:
    """Recommendations and ranks of an evaluation that is being written, see `evaluation_files`."""

    def __init__(self, recommendations: Parts, ranks: Parts) -> None:
        self._recommendations, self._ranks = recommendations, ranks

    def add(self, split: Split, recommendations: Recommendations) -> None:
        """Write a chunk of users.

        Args:
            split: the users, with their targets.
            recommendations: recommendations to these users.
        """
        found = recommendations
        self._recommendations.add(_recommendations_table(split.users, found))
        self._ranks.add(ranks_table(split, found.items, found.invalid, found.duplicates))


@contextmanager
def evaluation_files(
    folder: Path,
    beams: int,
    *,
    config: Mapping[str, Any],
    inputs: Mapping[str, Path],
    started: float,
    warm_items: np.ndarray | None = None,
) -> Iterator[Files]:
    """Write an evaluation a chunk of users at a time; the metrics are computed after the block. See
    `write_evaluation`.

    Args:
        folder: folder of the evaluation.
        beams: K.
        config, inputs: see `write_evaluation`.
        started: `time.monotonic()` at the start of the decoding.
        warm_items: sorted items with a training interaction, if the metrics of cold targets and of warm
            targets are written too.

    Raises:
        UserError: see `write_evaluation`.
    """
    write = functools.partial(write_parts, config=config, inputs=inputs, started=started)
    with together(folder) as new:
        ranks = new / "ranks.parquet"
        with (
            write(new / "recommendations.parquet", "recommendations") as found,
            write(ranks, "ranks") as ranked,
        ):
            yield Files(found, ranked)
        artifacts.write(
            new / "metrics.parquet",
            "metrics",
            metrics_table(read_parts(ranks, "ranks"), beams, warm_items=warm_items),
            config=config,
            inputs={**inputs, "ranks": ranks},
            started=started,
        )


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
