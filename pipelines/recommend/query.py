"""What is asked of a model that recommends, and what it finds.

Shapes: B histories, K beams, k horizon."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

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

    def frame(self, names: pl.Series, items: pl.DataFrame) -> pl.DataFrame:
        """Return the recommendations as `Model.recommend` does.

        Args:
            names: name of each history, [B], which becomes the first column.
            items: item_id and title of all items.
        """
        B, K, horizon = self.items.shape
        exists = np.isfinite(self.scores) & (self.items >= 0).all(2)  # [B, K]
        row, beam = np.nonzero(exists)
        place = np.cumsum(exists, axis=1)[row, beam]
        numbers = self.items[row, beam]  # [rows, k]
        histories = pl.Series(np.repeat(row, horizon))
        named = items[numbers.ravel()]  # in a fraction of the time of Series.gather
        sources = pl.Series(np.where(self.by_model, "model", "popularity").tolist(), dtype=pl.String)
        columns = {
            names.name: names[histories],
            "rank": pl.Series(np.repeat(place, horizon), dtype=pl.Int32),
            "position": pl.Series(np.tile(np.arange(1, horizon + 1), len(row)), dtype=pl.Int32),
            "item_id": named["item_id"],
            "title": named["title"],
            "score": pl.Series(np.repeat(self.scores[row, beam], horizon), dtype=pl.Float32),
            "source": sources[histories],
        }
        if horizon == 1:
            del columns["position"]
        return pl.DataFrame(columns)


@dataclass(frozen=True, eq=False)
class Query:
    """Settings of recommendations, resolved for a model.

    Attributes:
        decoding: decoding with at least k beams.
        k: number of recommendations of a history.
        qualifying: numbers of the items that qualify, int64, ascending; None for all.
        diversity: weight λ of maximal marginal relevance; 0 for the order of the scores.
    """

    decoding: Decoding
    k: int
    qualifying: np.ndarray | None = None
    diversity: float = 0.0
