"""Beam search that unmasks digits in any order, several per evaluation if asked (paper, section 3.2).

Shapes: B users, K beams, H digits, V codes. All beams of all users go through the model in one forward pass
an evaluation. Scores are float32 sums of log-probabilities.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipelines.decode.config import Decoding
from pipelines.decode.index import PartialIndex

LogProbabilities = Callable[[Tensor], Tensor]  # codes [B, K, H], V where masked → float32 [B, K, H, V]
CELLS = 1 << 24  # of the user × item scores held at once where the whole catalogue is scored
WIDEN = 4  # candidates looked at first, per beam wanted; more only where too few of them hold


@dataclass(frozen=True)
class Beams:
    """The result for B users, best beam first."""

    items: Tensor  # int64 [B, K], −1 where the beam is no item
    scores: Tensor  # float32 [B, K], −inf where there is no beam
    duplicates: Tensor  # int64 [B], beams struck out because a better one is the same SID

    @property
    def invalid(self) -> Tensor:
        """int64 [B]: beams that are no item of the catalogue."""
        return ((self.items < 0) & self.scores.isfinite()).sum(1)


@torch.no_grad()
def beam_search(log_probabilities: LogProbabilities, users: Tensor, index: PartialIndex, decoding: Decoding) -> Beams:
    """The K best items of each user.

    An evaluation that reveals several digits treats them as independent given what was visible (section 3.2):
    its digits are added one after another from the same log-probabilities. Candidates are then ranked by
    their score plus the best the evaluation's remaining digits can add, so the K kept are the K best
    combinations of the whole evaluation, found without enumerating the product. One evaluation for all
    digits (T = 1), constrained, scores the whole catalogue instead and needs no beam.

    No two beams can be the same: all children of a beam reveal the same digit, each with another code, so two
    beams differ in the digit at which they parted. The result is checked for it all the same.

    Args:
        log_probabilities: the model, given the users' histories.
        users: int64 [B] user numbers; they seed the random order, so that it does not depend on the batch.
        index: the catalogue.
        decoding: order, evaluations, beams, constraint.
    """
    H, V = index.digits, index.codes
    split = decoding.split(H)
    codes = torch.full((len(users), 1, H), V, device=users.device)
    if len(split) == 1 and decoding.constrained:
        return _whole_catalogue(log_probabilities(codes)[:, 0], index, decoding.beams)
    scores = torch.zeros((len(users), 1), device=users.device)
    order = random_order(users, H, decoding.seed) if decoding.unmask == "random" else None
    for reveal in split:
        logp = log_probabilities(codes)  # [B, K, H, V]
        digits = next_digits(logp, codes == V, decoding.unmask, order)[:, :, :reveal]  # [B, K, reveal]
        codes, scores = _reveal(logp, digits, codes, scores, index, decoding)
    numbers = index.number(codes)
    repeated = _repeats(numbers) & scores.isfinite()
    scores = scores.masked_fill(repeated, -torch.inf)
    return Beams(index.lookup(numbers).masked_fill(scores.isneginf(), -1), scores, repeated.sum(1))


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


def _reveal(logp: Tensor, digits: Tensor, codes: Tensor, scores: Tensor, index: PartialIndex, decoding: Decoding) -> tuple[Tensor, Tensor]:
    """Reveal `digits` [B, K, R] of each beam, one after another: the codes and scores of the K best."""
    B, K, H, V = logp.shape
    chosen = logp.gather(2, digits[..., None].expand(-1, -1, -1, V))  # [B, K, R, V]
    best = chosen.amax(-1)  # [B, K, R]
    hope = best.flip(-1).cumsum(-1).flip(-1) - best  # what the digits after each can add at most
    origin = torch.arange(K, device=codes.device).expand(B, K)  # beam of this evaluation that each beam came from
    for step in range(digits.shape[2]):
        digit = digits[:, :, step].gather(1, origin)  # [B, K']
        step_logp = chosen[:, :, step].gather(1, origin[..., None].expand(-1, -1, V))  # [B, K', V]
        gained = scores[..., None] + step_logp
        priority = gained + hope[:, :, step].gather(1, origin)[..., None]
        base = index.number(codes) - V * index.place[digit]  # number of each parent with the digit's place emptied
        numbers = base[..., None] + index.place[digit][..., None] * torch.arange(V, device=codes.device)  # [B, K', V]
        picked, alive = _best_valid(priority.flatten(1), numbers.flatten(1), index, decoding)
        parent, code = picked // V, picked % V  # [B, K]
        codes = codes.gather(1, parent[..., None].expand(-1, -1, H)).scatter(2, digit.gather(1, parent)[..., None], code[..., None])
        scores = gained.flatten(1).gather(1, picked).masked_fill(~alive, -torch.inf)
        origin = origin.gather(1, parent)
    return codes, scores


def _best_valid(priority: Tensor, numbers: Tensor, index: PartialIndex, decoding: Decoding) -> tuple[Tensor, Tensor]:
    """The K best candidates of each user; if constrained, of those that are part of some item.

    Only the best few are tested, four times as many again for the users where too few of them hold: the
    result is that of testing all.

    Args:
        priority: [B, C], −inf where there is no candidate.
        numbers: partial SIDs [B, C].

    Returns:
        Indices [B, K] into C, best first, and which of them are candidates [B, K].
    """
    B, C = priority.shape
    keep = min(decoding.beams, C)
    if not decoding.constrained:
        values, picked = priority.topk(keep)
        return picked, values > -torch.inf
    picked = torch.zeros((B, keep), dtype=torch.int64, device=priority.device)
    alive = torch.zeros((B, keep), dtype=torch.bool, device=priority.device)
    rows, width = torch.arange(B, device=priority.device), min(WIDEN * keep, C)
    while len(rows):
        values, order = priority[rows].topk(width)
        good = (values > -torch.inf) & index.valid(numbers[rows].gather(1, order))
        front = good.byte().sort(dim=1, descending=True, stable=True).indices[:, :keep]  # valid ones first, still by priority
        picked[rows], alive[rows] = order.gather(1, front), good.gather(1, front)
        if width == C:
            break
        short = (good.sum(1) < keep) & (values[:, -1] > -torch.inf)
        rows, width = rows[short], min(WIDEN * width, C)
    return picked, alive


def _repeats(numbers: Tensor) -> Tensor:
    """[B, C] → bool [B, C]: the same number stands further left in the row."""
    ordered, position = numbers.sort(dim=1, stable=True)
    same = torch.zeros_like(ordered, dtype=torch.bool)
    same[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    return torch.zeros_like(same).scatter(1, position, same)


def _whole_catalogue(logp: Tensor, index: PartialIndex, beams: int) -> Beams:
    """Score every item with the log-probabilities [B, H, V] of one evaluation, a block of the catalogue at a time."""
    B, N = len(logp), len(index.sids)
    items, scores = (torch.empty((B, 0), dtype=kind, device=logp.device) for kind in (torch.int64, torch.float32))
    block = max(beams, CELLS // B)
    for start in range(0, N, block):
        sids = index.sids[start : start + block]
        found = logp[:, 0].index_select(1, sids[:, 0])  # [B, block]
        for h in range(1, index.digits):
            found += logp[:, h].index_select(1, sids[:, h])
        best, place = found.topk(min(beams, len(sids)), dim=1)
        scores, order = torch.cat((scores, best), dim=1).topk(min(beams, start + len(sids)), dim=1)
        items = torch.cat((items, place + start), dim=1).gather(1, order)
    return Beams(items, scores, torch.zeros(B, dtype=torch.int64, device=logp.device))
