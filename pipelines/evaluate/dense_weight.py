"""The weight of the dense score in unified retrieval, chosen on the validation split.

Shapes: B users, K beams.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pipelines.data.held_out import HeldOut
from pipelines.data.splits import Split
from pipelines.decode.config import Decoding
from pipelines.decode.sid_index import SidIndex
from pipelines.evaluate.capabilities import resolve_decoding
from pipelines.evaluate.metrics import gains_by_rank
from pipelines.evaluate.recommend import Recommendations, recommend_chunks
from pipelines.models.base import DigitModel
from pipelines.processes import Processes
from pipelines.progress import Progress

WEIGHTS = np.linspace(0, 1, 21)  # from generative retrieval to the paper's unified retrieval
CUTOFF = 10
LEAST = -1e30  # score where there is no beam: below all others, and finite


def choose_dense_weight(
    model: DigitModel,
    users: Split | HeldOut,
    index: SidIndex,
    progress: Progress,
    *,
    processes: Processes | None = None,
    before_batch: Callable[[], None] | None = None,
) -> float:
    """Return the weight of `WEIGHTS` with the best NDCG@10 of unified retrieval; of equal ones the smallest.

    The beams of a user are the same for all weights, so that two decodings are enough: one by log-probability
    and one by dense score.

    Args:
        model: with dense retrieval, on its device.
        users: histories and targets of the validation split.
        index: partial semantic IDs of the catalogue.
        progress: where progress is reported.
        processes: processes that share the work; all return the same weight.
        before_batch: see `recommend_chunks`.
    """
    gains = np.zeros(len(WEIGHTS))
    generative, dense = (
        recommend_chunks(
            *(model, users, index, resolve_decoding(decoding, model), progress),
            processes=processes,
            before_batch=before_batch,
        )
        for decoding in (Decoding(), Decoding(retrieval="unified", dense_weight=1.0))
    )
    for (split, by_probability), (_, by_score) in zip(generative, dense, strict=True):
        items, log_probs = _by_item(by_probability)
        _, scores = _by_item(by_score)
        gains += [_gains(items, (1 - W) * log_probs + W * scores, split.first_target).sum() for W in WEIGHTS]
    return float(WEIGHTS[gains.argmax()])


def _by_item(found: Recommendations) -> tuple[np.ndarray, np.ndarray]:
    """Return the items of each user's beams, ascending, int64 [B, K], and their scores, float64 [B, K]."""
    items = found.items[:, :, 0]
    order = items.argsort(axis=1, kind="stable")
    scores = np.where(np.isneginf(found.scores), LEAST, found.scores.astype(np.float64))  # no beam
    return np.take_along_axis(items, order, 1), np.take_along_axis(scores, order, 1)


def _gains(items: np.ndarray, scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return NDCG@10 of each user, float64 [B], of items [B, K] in the order of their scores [B, K]; of equal
    scores the lower item number comes first.
    """
    is_target = items == targets[:, None]
    own = np.where(is_target, scores, -np.inf).max(axis=1, keepdims=True)
    before = (scores > own) | ((scores == own) & (items < targets[:, None]))
    rank = 1 + before.sum(axis=1)
    found = is_target.any(axis=1) & (rank <= CUTOFF)
    gains: np.ndarray = gains_by_rank(CUTOFF)["ndcg", CUTOFF][np.where(found, rank, 0)]
    return gains
