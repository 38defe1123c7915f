"""Diverse recommendations: maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998).

Shapes: B histories, K candidates of each, k recommendations, N items, D width.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

CANDIDATES = 5  # for each recommendation
CELLS = 1 << 24  # numbers of vectors held at once


@torch.inference_mode()
def most_marginal(
    scores: np.ndarray, items: np.ndarray, vectors: Tensor, weight: float, k: int
) -> np.ndarray:
    """Return the places of k candidates of each history that are relevant and unlike each other.

    One candidate is chosen after another: each time the one with the largest
    (1 − λ) · relevance − λ · (largest cosine with a chosen one). The relevance is exp(score) in units of the
    history's best, so that it is at most 1, like the cosine. The first one is the best; of equal ones the
    earlier wins. With λ = 0 the order stays.

    Args:
        scores: log-probabilities, or scores that a softmax makes probabilities of; descending, float32
            [B, K]; −∞ where there is no candidate.
        items: the candidates, int64 [B, K]; −1 for none.
        vectors: of all items, of length 1, float32 [N, D].
        weight: λ, from 0 to 1.
        k: number of recommendations.

    Returns:
        int64 [B, min(k, K)], places among the candidates.
    """
    step = max(1, CELLS // max(1, items.shape[1] * vectors.shape[1]))
    parts = [
        _places(
            torch.as_tensor(scores[start : start + step]),
            torch.as_tensor(items[start : start + step]),
            vectors,
            weight,
            k,
        )
        for start in range(0, len(items), step)
    ]
    return np.concatenate([np.zeros((0, min(k, items.shape[1])), np.int64), *parts])


def _places(scores: Tensor, items: Tensor, vectors: Tensor, weight: float, k: int) -> np.ndarray:
    """Return the places for a part of the histories; see `most_marginal`."""
    none = torch.finfo(scores.dtype).min  # after all that exist
    exists = (items >= 0) & scores.isfinite()
    best = scores.where(exists, -torch.inf).amax(1, keepdim=True)
    relevance = (scores - best).exp()  # [B, K]
    its = vectors[items.clamp(min=0)]  # [B, K, D]
    nearest = torch.zeros_like(relevance)  # largest cosine with a chosen one
    rows = torch.arange(len(items))
    taken = torch.zeros_like(exists)
    chosen: list[Tensor] = []
    for number in range(min(k, items.shape[1])):
        value = ((1 - weight) * relevance - weight * nearest).where(exists, none)
        place = value.where(~taken, -torch.inf).argmax(1)  # [B]
        chosen.append(place)
        taken[rows, place] = True
        cosine = torch.einsum("bkd,bd->bk", its, its[rows, place])
        nearest = cosine if number == 0 else torch.maximum(nearest, cosine)
    return torch.stack(chosen, 1).numpy()
