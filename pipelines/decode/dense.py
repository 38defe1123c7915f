"""Dense and unified retrieval: items by the text embedding that the model expects (paper, sections 3.3 and 4.6).

Shapes: B users, K beams, N items, E width of a text embedding. Dense scores are float32 dot products in any precision.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipelines.decode.beam import CELLS, Beams
from pipelines.decode.top import best_first, top
from pipelines.models.nn.precision import in_float32


@torch.no_grad()
def dense_search(query: Tensor, text: Tensor, beams: int) -> Beams:
    """The K items with the largest dense scores, all N compared.

    Args:
        query: expected text embeddings [B, E].
        text: text embeddings [N, E]; zero for an item without text, which so scores 0.
        beams: K.
    """
    with in_float32(query.device):
        found = [top(part @ text.T, beams) for part in query.split(max(1, CELLS // len(text)))]
    scores, items = (torch.cat(parts) for parts in zip(*found, strict=True))
    return Beams.of_items(items, scores)


@torch.no_grad()
def reranked(beams: Beams, query: Tensor, text: Tensor, cold: Tensor | None = None) -> Beams:
    """The same beams by their dense scores, as unified retrieval orders them; with `cold` items the K best of both.

    Beams that are no item sink below all items, with the least of finite scores: they still count as invalid.

    Args:
        cold: int64 [C], items that every user gets as candidates beside the beams; each still stands in a ranking once.
    """
    items = beams.items.squeeze(2)  # [B, K]
    scores = (text[items] * query[:, None]).sum(2)
    scores = scores.masked_fill(items < 0, torch.finfo(torch.float32).min).masked_fill(
        beams.scores.isneginf(), -torch.inf
    )
    if cold is not None:
        best = dense_search(query, text[cold], items.shape[1])
        joining = cold[best.items.squeeze(2)]  # [B, K'], the best of them; more cannot come among the K best
        found = ((joining[:, :, None] == items[:, None]) & beams.scores.isfinite()[:, None]).any(2)
        items = torch.cat((items, joining), dim=1)
        scores = torch.cat((scores, best.scores.masked_fill(found, -torch.inf)), dim=1)
    order = best_first(scores, items)[:, : beams.items.shape[1]]
    return Beams(items.gather(1, order)[:, :, None], scores.gather(1, order), beams.duplicates)
