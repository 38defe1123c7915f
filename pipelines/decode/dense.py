"""Dense and unified retrieval: items by the text embedding that the model predicts (paper, sections 3.3 and
4.6).

Shapes: B users, K beams, N items, C cold items, E width of a text embedding. Dense scores are float32 dot
products in any precision."""

from __future__ import annotations

import torch
from torch import Tensor

from pipelines.data.eligible import Eligible
from pipelines.decode.beam import Beams, rank_items
from pipelines.decode.top_k import best_first
from pipelines.models.denoiser import ItemScores


@torch.no_grad()
def dense_search(query: Tensor, text: Tensor, eligible: Eligible, beams: int) -> Beams:
    """Return the K items with the largest dense scores.

    Args:
        query: predicted text embeddings, [B, E].
        text: text embeddings of the catalogue, [N, E]; zero for an item without text, whose score is 0.
        eligible: the items that may be recommended.
        beams: K.
    """

    scores = ItemScores(lambda items: query @ text[items].T, are_logits=False)
    with torch.autocast(query.device.type, enabled=False):
        return rank_items(scores, len(query), eligible, beams, len(text))


@torch.no_grad()
def rerank(
    beams: Beams, query: Tensor, text: Tensor, weight: float = 1.0, cold: Eligible | None = None
) -> Beams:
    """Sort beams by the weighted sum of their log-probability and their dense score, as unified retrieval
    does; with cold items, return the K best of the beams and the cold items.

    Beams that are no item come after all items, with the smallest finite score, so that they still count as
    invalid.

    Args:
        beams: beams of one item each.
        query: predicted text embeddings, [B, E].
        text: text embeddings, [N, E].
        weight: W, from 0 to 1: the score is (1 − W) · log p + W · dense score. With 1, as in the paper
            (section 4.6), it is the dense score.
        cold: the C items that are candidates besides the beams, by their dense scores. No item occurs twice
            in a ranking.
    """
    items = beams.items.squeeze(2)  # [B, K]
    scores = (text[items] * query[:, None]).sum(2)
    if weight < 1:
        scores = weight * scores + (1 - weight) * beams.scores
    scores = scores.masked_fill(items < 0, torch.finfo(torch.float32).min)
    scores = scores.masked_fill(beams.scores.isneginf(), -torch.inf)
    if cold is not None:
        best = dense_search(query, text, cold, items.shape[1])
        candidates = best.items.squeeze(2)  # [B, min(K, C)]; other cold items cannot be among the K best
        repeated = (candidates[:, :, None] == items[:, None]) & beams.scores.isfinite()[:, None]
        items = torch.cat((items, candidates), dim=1)
        scores = torch.cat((scores, best.scores.masked_fill(repeated.any(2), -torch.inf)), dim=1)
    order = best_first(scores, items)[:, : beams.items.shape[1]]
    return Beams(items.gather(1, order)[:, :, None], scores.gather(1, order), beams.duplicates)
