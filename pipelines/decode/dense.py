"""Dense and unified retrieval: items by the text embedding that the model expects (paper, sections 3.3 and 4.6).

Shapes: B users, K beams, N items, E width of a text embedding. Dense scores are float32 dot products in any precision.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipelines.decode.beam import CELLS, Beams


@torch.no_grad()
def dense_search(query: Tensor, text: Tensor, beams: int) -> Beams:
    """The K items with the largest dense scores, all N compared.

    Args:
        query: expected text embeddings [B, E].
        text: text embeddings [N, E]; zero for an item without text, which so scores 0.
        beams: K.
    """
    with torch.autocast(query.device.type, enabled=False):
        found = [(part @ text.T).topk(min(beams, len(text))) for part in query.split(max(1, CELLS // len(text)))]
    scores, items = (torch.cat(parts) for parts in zip(*found, strict=True))
    return Beams.of_items(items, scores)


@torch.no_grad()
def reranked(beams: Beams, query: Tensor, text: Tensor) -> Beams:
    """The same beams by their dense scores, as unified retrieval orders them.

    Beams that are no item sink below all items, with the least of finite scores: they still count as invalid.
    """
    items = beams.items.squeeze(2)  # [B, K]
    scores = (text[items] * query[:, None]).sum(2)
    scores = scores.masked_fill(items < 0, torch.finfo(torch.float32).min).masked_fill(beams.scores.isneginf(), -torch.inf)
    scores, order = scores.sort(dim=1, descending=True, stable=True)
    return Beams(beams.items.gather(1, order[:, :, None]), scores, beams.duplicates)
