"""Similar items: by the vectors of a model, by texts, or by semantic IDs.

Shapes: Q items in question, N items of the catalogue, D width, H digits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.data.catalogue import load_text, path_of_text_behind
from pipelines.errors import UserError
from pipelines.models.loading import TrainedRun
from pipelines.options import check_choice
from pipelines.recommend.config import SIMILARITIES

CELLS = 1 << 24  # scores computed at once


@torch.inference_mode()
def compared(trained: TrainedRun, by: str) -> Tensor:
    """Return what the items of a run are compared by: semantic IDs, int64 [N, H], or vectors of length 1,
    float32 [N, D].

    Args:
        trained: run with its catalogue.
        by: one of `SIMILARITIES`.

    Raises:
        UserError: the run has no text embeddings or no semantic IDs, or `by` is unknown.
    """
    check_choice("--by", by, SIMILARITIES)
    if by == "sids":
        return _sids(trained)
    vectors = trained.model.history_vectors().float().cpu() if by == "model" else _text(trained)
    return F.normalize(vectors, dim=1)


@torch.inference_mode()
def similar_items(vectors: Tensor, items: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the items most similar to each of some items, best first; of equal scores the lower numbers.

    Args:
        vectors: semantic IDs or vectors, as `compared` returns them.
        items: item numbers, int64 [Q].
        k: number of similar items; an item is not similar to itself.

    Returns:
        int64 [Q, min(k, N − 1)], items; float32 of the same shape, scores.
    """
    by_sids = not vectors.is_floating_point()
    k = min(k, len(vectors) - 1)
    found, scores = [np.zeros((0, k), np.int64)], [np.zeros((0, k), np.float32)]
    for part in torch.as_tensor(items).split(max(1, CELLS // len(vectors))):
        similarity = _shared(vectors, part) if by_sids else vectors[part] @ vectors.T  # [q, N]
        similarity[torch.arange(len(part)), part] = -torch.inf
        best = similarity.sort(dim=1, descending=True, stable=True)
        found.append(best.indices[:, :k].numpy())
        scores.append(best.values[:, :k].numpy())
    result = np.concatenate(scores)
    return np.concatenate(found), np.floor(result) if by_sids else result


def _text(trained: TrainedRun) -> Tensor:
    """Return the text embeddings that the semantic IDs of a run were made from, float32 [N, E]."""
    path = text_path(trained)
    if path is None:
        raise UserError(
            "--by text needs a run over semantic IDs that were made from text embeddings. Take --by model."
        )
    return torch.as_tensor(load_text(path))


def text_path(trained: TrainedRun) -> Path | None:
    """Return the file of the text embeddings that the semantic IDs of a run were made from; None if there are
    none.
    """
    path = trained.inputs.get("sids")
    return path_of_text_behind(path) if path else None


def _sids(trained: TrainedRun) -> Tensor:
    """Return semantic IDs, integers [N, H]."""
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
