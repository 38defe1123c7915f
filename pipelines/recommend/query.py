"""What is asked of a model that recommends, and what it finds.

Shapes: B histories, K beams, k horizon."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.decode.config import Decoding


@dataclass(frozen=True, eq=False)
class Found:
    """Recommendations to B histories, by item number.

    Attributes:
        items: int64 [B, K, k], best first; −1 where there is no item.
        scores: float32 [B, K]: log-probabilities or other scores of the model; numbers of interactions where
            the recommendations are the most popular items.
        by_model: false where the history was empty, so that the most popular items were taken; bool [B].
    """

    items: np.ndarray
    scores: np.ndarray
    by_model: np.ndarray


@dataclass(frozen=True, eq=False)
class Query:
    """Settings of recommendations, resolved for a model.

    Attributes:
        decoding: decoding with at least k beams.
        k: number of recommendations of a history.
        qualifying: numbers of the items that qualify, int64, ascending; None for all.
    """

    decoding: Decoding
    k: int
    qualifying: np.ndarray | None = None
