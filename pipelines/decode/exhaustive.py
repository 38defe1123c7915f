"""The scores that a decoding gives to known items, and to every item of a catalogue: the truth that a beam
search is compared with.

Shapes: B users, N items, H digits per item, V codes per digit."""

from __future__ import annotations

import torch
from torch import Tensor

from pipelines.decode.beam import next_digits, random_order
from pipelines.decode.config import CONFIDENCE, Decoding
from pipelines.decode.sid_index import SidIndex
from pipelines.models.denoiser import Denoiser


@torch.no_grad()
def walk(denoiser: Denoiser, users: Tensor, truth: Tensor, codes: int, decoding: Decoding) -> Tensor:
    """Score items along their paths: every function evaluation unmasks the next digits of the order, with the
    item's codes.

    The order may depend on what is unmasked (greedy), but given the item it leaves no choice. So each item
    has one path and one score: the product of equation 4, with the approximation of section 3.2 for T < H.
    An item softmax needs no approximation.

    Args:
        denoiser: the model.
        users: user numbers, int64 [B]; they seed the random order.
        truth: semantic IDs to score for each user, int64 [B, N, H].
        codes: V.
        decoding: order and number of function evaluations.

    Returns:
        Summed log-probabilities, float32 [B, N].

    Raises:
        ValueError: the order leaves a choice, because digits compete.
    """
    if decoding.order == CONFIDENCE:
        raise ValueError(f"an item has many paths in the order {CONFIDENCE}")
    H = truth.shape[2]
    partial = torch.full(truth.shape, codes, device=users.device)
    scores = torch.zeros(truth.shape[:2], device=users.device)
    origin = torch.arange(truth.shape[1], device=users.device).expand(truth.shape[:2])  # [B, N]
    order = random_order(users, H, decoding.seed) if decoding.order == "random" else None
    for count in decoding.unmask_schedule(H):
        logp = denoiser(partial)  # [B, N, H, V]
        digits = next_digits(logp, partial == codes, decoding.order, order)[:, :, :count]  # [B, N, count]
        for step, digit in enumerate(digits.split(1, dim=2)):  # [B, N, 1]
            if step:
                logp = denoiser.refine(partial, origin)
            true_logp = logp.gather(3, truth[..., None]).squeeze(3)  # [B, N, H]
            scores = scores + true_logp.gather(2, digit).squeeze(2)
            partial = partial.scatter(2, digit, truth.gather(2, digit))
    return scores


def score_every_item(denoiser: Denoiser, users: Tensor, index: SidIndex, decoding: Decoding) -> Tensor:
    """Score every item of a catalogue along its path.

    This is for small catalogues: it costs N beams per user in every function evaluation. A constrained beam
    search with K = N beams must return exactly these scores; a narrower search may miss some.

    Returns:
        Summed log-probabilities by item number, float32 [B, N].
    """
    return walk(denoiser, users, index.sids.long().expand(len(users), -1, -1), index.codes, decoding)
