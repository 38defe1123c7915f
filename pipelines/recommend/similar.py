"""Similar items: by the vectors of a model, by texts, or by semantic IDs.

Shapes: Q items in question, N items of the catalogue, D width, H digits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.data.catalogue import text_behind
from pipelines.errors import UserError
from pipelines.models.loading import TrainedRun
from pipelines.options import check_choice
from pipelines.recommend.config import SIMILARITIES

CELLS = 1 << 24  # scores computed at once


@torch.inference_mode()
def similar_items(trained: TrainedRun, items: np.ndarray, k: int, by: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the items most similar to each of some items, best first; of equal scores the lower numbers.

    Args:
        trained: run with its catalogue.
        items: item numbers, int64 [Q].
        k: number of similar items; an item is not similar to itself.
        by: one of `SIMILARITIES`.

    Returns:
        int64 [Q, min(k, N − 1)], items; float32 of the same shape, scores.

    Raises:
        UserError: the run has no text embeddings or no semantic IDs, or `by` is unknown.
    """
    check_choice("--by", by, SIMILARITIES)
    if by == "sids":
        return by_sids(_sids(trained), items, k)
    vectors = trained.model.history_vectors().float().cpu() if by == "model" else _text(trained)
    return by_vectors(vectors, items, k)


def by_vectors(vectors: Tensor, items: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the items most similar to some items by the cosine of vectors, float32 [N, D]; see
    `similar_items`.
    """
    return _best(F.normalize(vectors, dim=1), items, k, lambda vectors, part: vectors[part] @ vectors.T)


def by_sids(sids: Tensor, items: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the items most similar to some items by the number of equal digits of semantic IDs, int64
    [N, H], of equally many the earlier ones; see `similar_items`.
    """
    found, scores = _best(sids, items, k, _shared)
    return found, np.floor(scores)


@torch.inference_mode()
def _best(
    vectors: Tensor, items: np.ndarray, k: int, similarities: Callable[[Tensor, Tensor], Tensor]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the best k items of each item but itself, and their scores.

    Args:
        similarities: function from vectors and some items [q] to their similarities with all items [q, N].
    """
    k = min(k, len(vectors) - 1)
    found, scores = [np.zeros((0, k), np.int64)], [np.zeros((0, k), np.float32)]
    for part in torch.as_tensor(items).split(max(1, CELLS // len(vectors))):
        similarity = similarities(vectors, part)  # [q, N]
        similarity[torch.arange(len(part)), part] = -torch.inf
        best = similarity.sort(dim=1, descending=True, stable=True)
        found.append(best.indices[:, :k].numpy())
        scores.append(best.values[:, :k].numpy())
    return np.concatenate(found), np.concatenate(scores)


def _text(trained: TrainedRun) -> Tensor:
    """Return the text embeddings that the semantic IDs of a run were made from, float32 [N, E]."""
    path = trained.inputs.get("sids")
    text = text_behind(path) if path else None
    if text is None:
        raise UserError(
            "--by text needs a run over semantic IDs that were made from text embeddings. Take --by model."
        )
    return torch.as_tensor(text)


def _sids(trained: TrainedRun) -> Tensor:
    """Return semantic IDs, int64 [N, H]."""
    if trained.catalogue.sids is None:
        raise UserError("--by sids needs a run over semantic IDs. Take --by model.")
    return torch.as_tensor(trained.catalogue.sids)


def _shared(sids: Tensor, items: Tensor) -> Tensor:
    """Return the number of digits that items [Q] share with all items, plus a share below 1 that is larger if
    earlier digits are shared: float32 [Q, N].
    """
    H = sids.shape[1]
    weights = 1 + 0.5 ** torch.arange(1, H + 1)  # [H]
    result = torch.zeros(len(items), len(sids))
    for column, weight in zip(sids.T, weights, strict=True):
        result += weight * (column[items][:, None] == column)
    return result
