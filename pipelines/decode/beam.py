"""Beam search that unmasks digits in any order, several per evaluation if asked (paper, section 3.2).

Shapes: B users, K beams, H digits an item, S digits in all, V codes. All beams of all users go through the model in one forward pass
an evaluation. Scores are float32 sums of log-probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipelines.decode.config import CONFIDENCE, Decoding
from pipelines.decode.index import PartialIndex
from pipelines.decode.nearest import nearest_items
from pipelines.decode.partial import CELLS, Partial
from pipelines.decode.reveal import compete, decide_again, reveal
from pipelines.decode.top import top
from pipelines.models.sid.digit_heads import of_items
from pipelines.models.sid.item_softmax import Denoiser, ItemSoftmax


@dataclass(frozen=True)
class Beams:
    """The result for B users, best beam first."""

    items: Tensor  # int64 [B, K, k], −1 where that part of the beam is no item
    scores: Tensor  # float32 [B, K], −inf where there is no beam
    duplicates: Tensor  # int64 [B], beams struck out because a better one is the same

    @staticmethod
    def of_items(items: Tensor, scores: Tensor) -> Beams:
        """Ranked items [B, K] with their scores, that were found without beams."""
        return Beams(
            items[:, :, None], scores, torch.zeros(len(items), dtype=torch.int64, device=items.device)
        )

    @property
    def invalid(self) -> Tensor:
        """int64 [B]: beams of which some part is no item of the catalogue."""
        return ((self.items < 0).any(2) & self.scores.isfinite()).sum(1)


@torch.no_grad()
def beam_search(
    denoiser: Denoiser,
    users: Tensor,
    index: PartialIndex,
    decoding: Decoding,
    horizon: int = 1,
) -> Beams:
    """The K best continuations of each user by k items (`horizon`), S = k·H digits (paper, section 3.2; k > 1: 4.4).

    An evaluation that reveals several digits treats them as independent given what was visible (section 3.2), or, with
    joint digits (`ItemSoftmax`), takes their combinations from the items that have them. Either way the K beams kept are the K best
    combinations of the whole evaluation, and where constrained the K best that some item has (`reveal`). One evaluation
    for all digits (T = 1) of one item, constrained, scores the whole catalogue instead and needs no beam.

    Of beams with equal scores that of the lower item comes first.

    No two beams can be the same: all children of a beam reveal the same digit, each with another code, so two
    beams differ in the digit at which they parted. The result is checked for it all the same. Remasking, and digits
    that compete (`--unmask confidence`), may lead two beams to the same partial SID; the better one stays.

    Args:
        log_probabilities: the model, given the users' histories.
        users: int64 [B] user numbers; they seed the random order, so that it does not depend on the batch.
        index: the catalogue.
        decoding: order, evaluations, beams, constraint or the nearest item instead, remasking.
        ahead: k.
    """
    S, V = horizon * index.digits, index.codes
    split = decoding.unmask_schedule(S)
    codes = torch.full((len(users), 1, S), V, device=users.device)
    if len(split) == 1 and horizon == 1 and not decoding.remask and isinstance(denoiser, ItemSoftmax):
        scores = denoiser.items(codes)  # [B, N]
        best, items = top(scores, decoding.beams)
        return Beams.of_items(items, best)
    if len(split) == 1 and decoding.constrained and horizon == 1 and not decoding.remask:
        return _whole_catalogue(denoiser(codes)[:, 0], index, decoding.beams)
    token_log_probs = torch.zeros(codes.shape, device=users.device)
    beams = Partial(codes, token_log_probs, token_log_probs[:, :, 0])
    order = random_order(users, S, decoding.seed) if decoding.order == "random" else None
    for count in split:
        logp = denoiser(beams.codes)  # [B, K, S, V]
        if decoding.order == CONFIDENCE:
            beams = compete(denoiser, logp, count, beams, index, decoding)
            continue
        digits = next_digits(logp, beams.codes == V, decoding.order, order)[:, :, :count]  # [B, K, count]
        beams = reveal(denoiser, logp, digits, beams, index, decoding)
    for _ in range(decoding.remask):
        beams = decide_again(denoiser, beams, index, decoding)
    whole = beams.codes.unflatten(2, (horizon, index.digits))  # [B, K, k, H]
    numbers = index.number(whole)  # [B, K, k]
    items = index.lookup(numbers)
    if decoding.nearest:
        lost = (items < 0) & beams.scores.isfinite()[:, :, None]
        items = numbers = items.masked_scatter(lost, nearest_items(whole[lost], index))
    repeated = (numbers[:, :, None] == numbers[:, None]).all(3).tril(-1).any(
        2
    ) & beams.scores.isfinite()  # [B, K]
    scores = beams.scores.masked_fill(repeated, -torch.inf)
    items = items.masked_fill(scores.isneginf()[:, :, None], -1)
    return Beams(*_ranked(items, scores), repeated.sum(1))


def _ranked(items: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Beams of items [B, K, k] with their scores [B, K], best first: those struck out last, of equal ones the lower items first."""
    order = torch.arange(items.shape[1], device=items.device).expand(items.shape[:2])
    keys = [
        items[:, :, part].where(items[:, :, part] >= 0, torch.iinfo(torch.int64).max)
        for part in range(items.shape[2])
    ]
    for key, descending in (*((key, False) for key in reversed(keys)), (scores, True)):
        order = order.gather(1, key.gather(1, order).argsort(dim=1, descending=descending, stable=True))
    return items.gather(1, order[:, :, None].expand_as(items)), scores.gather(1, order)


def random_order(users: Tensor, digits: int, seed: int) -> Tensor:
    """A random permutation of the digits for each user, [B, H]; the same for a user in any batch."""
    draws = np.random.default_rng(seed).random((int(users.max()) + 1, digits))[users.cpu().numpy()]
    return torch.as_tensor(draws.argsort(1), device=users.device)


def next_digits(logp: Tensor, masked: Tensor, unmask: str, order: Tensor | None) -> Tensor:
    """All digits of each beam, those to unmask first in front, revealed ones at the end: int64 [B, K, H].

    Greedy takes the digits whose two most likely codes are furthest apart in probability (section 4.5).
    """
    if unmask == "greedy":
        best = logp.topk(min(2, logp.shape[-1]), dim=-1).values.exp()
        urgency = best[..., 0] - best[..., -1]
    else:
        H = masked.shape[-1]
        rank = torch.arange(H, device=masked.device) if order is None else order.argsort(1)[:, None]
        urgency = (-rank.float()).expand(masked.shape)
    return urgency.masked_fill(~masked, -torch.inf).sort(dim=-1, descending=True, stable=True).indices


def _whole_catalogue(logp: Tensor, index: PartialIndex, beams: int) -> Beams:
    """Score every item with the log-probabilities [B, H, V] of one evaluation, a block of the catalogue at a time."""
    B, N = len(logp), len(index.sids)
    items, scores = (
        torch.empty((B, 0), dtype=kind, device=logp.device) for kind in (torch.int64, torch.float32)
    )
    block = max(beams, CELLS // B)
    for start in range(0, N, block):
        sids = index.sids[start : start + block]
        best, place = top(of_items(logp, sids), beams)
        items = torch.cat((items, place + start), dim=1)
        scores, order = top(torch.cat((scores, best), dim=1), beams)  # items found before have lower numbers
        items = items.gather(1, order)
    return Beams.of_items(items, scores)
