"""Similar items: by the vectors of a model, by texts, or by semantic IDs.

Shapes: Q items in question, N items of the catalogue, D width, H digits."""

from __future__ import annotations

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
    vectors = _sids(trained) if by == "sids" else _vectors(trained, by)
    k = min(k, len(vectors) - 1)
    found, scores = [np.zeros((0, k), np.int64)], [np.zeros((0, k), np.float32)]
    for part in torch.as_tensor(items).split(max(1, CELLS // len(vectors))):
        similarity = _shared(vectors, part) if by == "sids" else vectors[part] @ vectors.T  # [q, N]
        similarity[torch.arange(len(part)), part] = -torch.inf
        best = similarity.sort(dim=1, descending=True, stable=True)
        found.append(best.indices[:, :k].numpy())
        scores.append(best.values[:, :k].numpy())
    result = np.concatenate(scores)
    return np.concatenate(found), np.floor(result) if by == "sids" else result


def _vectors(trained: TrainedRun, by: str) -> Tensor:
    """Return vectors of length 1, float32 [N, D], on the CPU."""
    if by == "model":
        vectors = trained.model.history_vectors().float().cpu()
    else:
        vectors = torch.as_tensor(_text(trained))
    return F.normalize(vectors, dim=1)


def _text(trained: TrainedRun) -> np.ndarray:
    """Return the text embeddings that the semantic IDs of a run were made from, float32 [N, E]."""
    path = trained.inputs.get("sids")
    text = text_behind(path) if path else None
    if text is None:
        raise UserError(
            "--by text needs a run over semantic IDs that were made from text embeddings. Take --by model."
        )
    return text


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
