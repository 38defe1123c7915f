"""The score that a decoding gives to known items, and to every item: what a beam search is held against.

Shapes: B users, N items, H digits, V codes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipelines.decode.beam import next_digits, random_order
from pipelines.decode.config import CONFIDENCE, Decoding
from pipelines.decode.index import PartialIndex
from pipelines.models.sid.item_softmax import Denoiser, ItemSoftmax


@torch.no_grad()
def walk(denoiser: Denoiser, users: Tensor, truth: Tensor, codes: int, decoding: Decoding) -> Tensor:
    """Walk each item's own path: at every evaluation reveal the digits that the order takes next, with the item's codes.

    The order may look at what is revealed (greedy), but given the item it leaves no choice, so each item has one path
    and one score, the product of equation 4 (of section 3.2's approximation for T < H; joint digits need none).

    Args:
        log_probabilities: the model, given the users' histories.
        users: int64 [B] user numbers; they seed the random order.
        truth: int64 [B, N, H], semantic IDs to score for each user.
        codes: V.
        decoding: order and evaluations.

    Returns:
        float32 [B, N], summed log-probabilities.

    Raises:
        ValueError: the order leaves a choice, as where digits compete.
    """
    if decoding.order == CONFIDENCE:
        raise ValueError(f"an item has many paths in the order {CONFIDENCE}")
    H = truth.shape[2]
    partial = torch.full(truth.shape, codes, device=users.device)
    scores = torch.zeros(truth.shape[:2], device=users.device)
    order = random_order(users, H, decoding.seed) if decoding.order == "random" else None
    for reveal in decoding.unmask_schedule(H):
        logp = denoiser(partial)  # [B, N, H, V]
        digits = next_digits(logp, partial == codes, decoding.order, order)[:, :, :reveal]  # [B, N, reveal]
        for step, digit in enumerate(digits.split(1, dim=2)):  # each [B, N, 1]
            if step and isinstance(denoiser, ItemSoftmax):
                logp = denoiser.again(
                    partial, torch.arange(truth.shape[1], device=users.device).expand(truth.shape[:2])
                )
            own = logp.gather(3, truth[..., None]).squeeze(3)  # [B, N, H]
            scores = scores + own.gather(2, digit).squeeze(2)
            partial = partial.scatter(2, digit, truth.gather(2, digit))
    return scores


def score_every_item(denoiser: Denoiser, users: Tensor, index: PartialIndex, decoding: Decoding) -> Tensor:
    """Walk every item of a catalogue; for small ones, as it costs N beams per user in every evaluation.

    A constrained beam search with K = N beams must return exactly these scores; a narrower one may miss some, and how
    many is what narrow costs.

    Returns:
        float32 [B, N], summed log-probabilities by item number.
    """
    return walk(denoiser, users, index.sids.expand(len(users), -1, -1), index.codes, decoding)
