"""The score of every item under a decoding: what a beam search is held against. For small catalogues.

Shapes: B users, N items, H digits, V codes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipelines.decode.beam import LogProbabilities, next_digits, random_order
from pipelines.decode.config import Decoding
from pipelines.decode.index import PartialIndex


@torch.no_grad()
def score_every_item(log_probabilities: LogProbabilities, users: Tensor, index: PartialIndex, decoding: Decoding) -> Tensor:
    """Walk each item's own path: at every evaluation reveal the digits that the order takes next, with the item's codes.

    The order may look at what is revealed (greedy), but given the item it leaves no choice, so each item has one path
    and one score, the product of equation 4 (of section 3.2's approximation for T < H). A constrained beam search with
    K = N beams must return exactly these; a narrower one may miss some, and how many is what narrow costs.

    Costs N beams per user in every evaluation.

    Returns:
        float32 [B, N], summed log-probabilities by item number.
    """
    B, (N, H) = len(users), index.sids.shape
    codes = torch.full((B, N, H), index.codes, device=users.device)
    scores = torch.zeros((B, N), device=users.device)
    truth = index.sids.expand(B, N, H)
    order = random_order(users, H, decoding.seed) if decoding.unmask == "random" else None
    for reveal in decoding.split(H):
        logp = log_probabilities(codes)  # [B, N, H, V]
        digits = next_digits(logp, codes == index.codes, decoding.unmask, order)[:, :, :reveal]  # [B, N, reveal]
        own = logp.gather(3, truth[..., None]).squeeze(3)  # [B, N, H]
        scores = scores + own.gather(2, digits).sum(2)
        codes = codes.scatter(2, digits, truth.gather(2, digits))
    return scores
