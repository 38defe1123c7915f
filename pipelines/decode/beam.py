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
from pipelines.models.independent import of_items
from pipelines.models.joint import Joint, LogProbabilities

CELLS = 1 << 24  # of the user × item scores held at once where the whole catalogue is scored
WIDEN = 4  # candidates looked at first, per beam wanted; more only where too few of them hold


@dataclass(frozen=True)
class Beams:
    """The result for B users, best beam first."""

    items: Tensor  # int64 [B, K, k], −1 where that part of the beam is no item
    scores: Tensor  # float32 [B, K], −inf where there is no beam
    duplicates: Tensor  # int64 [B], beams struck out because a better one is the same

    @staticmethod
    def of_items(items: Tensor, scores: Tensor) -> Beams:
        """Ranked items [B, K] with their scores, that were found without beams."""
        return Beams(items[:, :, None], scores, torch.zeros(len(items), dtype=torch.int64, device=items.device))

    @property
    def invalid(self) -> Tensor:
        """int64 [B]: beams of which some part is no item of the catalogue."""
        return ((self.items < 0).any(2) & self.scores.isfinite()).sum(1)


@dataclass(frozen=True)
class _Partial:
    """Beams on the way."""

    codes: Tensor  # int64 [B, K, S], V where masked
    gains: Tensor  # float32 [B, K, S], the log-probability at which each digit was revealed, 0 where masked
    scores: Tensor  # float32 [B, K], their sum; −inf where there is no beam


@torch.no_grad()
def beam_search(log_probabilities: LogProbabilities, users: Tensor, index: PartialIndex, decoding: Decoding, ahead: int = 1) -> Beams:
    """The K best continuations of each user by k items (`ahead`), S = k·H digits (paper, section 3.2; k > 1: 4.4).

    An evaluation that reveals several digits treats them as independent given what was visible (section 3.2):
    its digits are added one after another from the same log-probabilities. Candidates are then ranked by
    their score plus the best the evaluation's remaining digits can add, so the K kept are the K best
    combinations of the whole evaluation, found without enumerating the product. A model with joint digits (`Joint`) says
    of each further digit what follows from those added before it. One evaluation for all
    digits (T = 1) of one item, constrained, scores the whole catalogue instead and needs no beam.

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
    S, V = ahead * index.digits, index.codes
    split = decoding.split(S)
    codes = torch.full((len(users), 1, S), V, device=users.device)
    if len(split) == 1 and ahead == 1 and not decoding.remask and isinstance(log_probabilities, Joint):
        scores = log_probabilities.items(codes)  # [B, N]
        best, items = scores.topk(min(decoding.beams, scores.shape[1]), dim=1)
        return Beams.of_items(items, best)
    if len(split) == 1 and decoding.constrained and ahead == 1 and not decoding.remask:
        return _whole_catalogue(log_probabilities(codes)[:, 0], index, decoding.beams)
    gains = torch.zeros(codes.shape, device=users.device)
    beams = _Partial(codes, gains, gains[:, :, 0])
    order = random_order(users, S, decoding.seed) if decoding.order == "random" else None
    for reveal in split:
        logp = log_probabilities(beams.codes)  # [B, K, S, V]
        if decoding.order == CONFIDENCE:
            beams = _compete(log_probabilities, logp, reveal, beams, index, decoding)
            continue
        digits = next_digits(logp, beams.codes == V, decoding.order, order)[:, :, :reveal]  # [B, K, reveal]
        beams = _reveal(log_probabilities, logp, digits, beams, index, decoding)
    for _ in range(decoding.remask):
        beams = _decide_again(log_probabilities, beams, index, decoding)
    whole = beams.codes.unflatten(2, (ahead, index.digits))  # [B, K, k, H]
    numbers = index.number(whole)  # [B, K, k]
    items = index.lookup(numbers)
    if decoding.nearest:
        lost = (items < 0) & beams.scores.isfinite()[:, :, None]
        items = numbers = items.masked_scatter(lost, nearest_items(whole[lost], index))
    repeated = (numbers[:, :, None] == numbers[:, None]).all(3).tril(-1).any(2) & beams.scores.isfinite()  # [B, K]
    scores = beams.scores.masked_fill(repeated, -torch.inf)
    items = items.masked_fill(scores.isneginf()[:, :, None], -1)
    if decoding.nearest:  # several beams may have become one item: what is left moves up
        order = scores.isneginf().byte().sort(dim=1, stable=True).indices
        items, scores = items.gather(1, order[:, :, None].expand_as(items)), scores.gather(1, order)
    return Beams(items, scores, repeated.sum(1))


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


def _reveal(
    expected: LogProbabilities, logp: Tensor, digits: Tensor, beams: _Partial, index: PartialIndex, decoding: Decoding, merge: bool = False
) -> _Partial:
    """Reveal `digits` [B, K, R] of each beam, one after another, and keep the K best; `merge` where beams may meet."""
    V, H = logp.shape[3], index.digits
    chosen = logp.gather(2, digits[..., None].expand(-1, -1, -1, V))  # [B, K, R, V]
    best = chosen.amax(-1)  # [B, K, R]
    hope = best.flip(-1).cumsum(-1).flip(-1) - best  # what the digits after each can add at most
    origin = torch.arange(digits.shape[1], device=digits.device).expand(digits.shape[:2])  # where in `logp` each beam came from
    for step in range(digits.shape[2]):
        digit = digits[:, :, step].gather(1, origin)  # [B, K']
        if step and isinstance(expected, Joint):
            gain = expected.again(beams.codes, origin).gather(2, digit[:, :, None, None].expand(-1, -1, -1, V)).squeeze(2)
        else:
            gain = chosen[:, :, step].gather(1, origin[..., None].expand(-1, -1, V))  # [B, K', V]
        gained = (beams.scores[..., None] + gain).flatten(1)  # [B, K'·V]
        priority = gained + hope[:, :, step].gather(1, origin).repeat_interleave(V, dim=1)
        place = index.place[digit % H]  # [B, K']
        part = index.number(beams.codes.unflatten(2, (-1, H))).gather(2, (digit // H)[..., None]).squeeze(2) - V * place
        numbers = (part[..., None] + place[..., None] * torch.arange(V, device=digit.device)).flatten(1)  # of the item it is part of
        picked, alive = _best_valid(priority, numbers, index, decoding, merge)
        parent, code = picked // V, picked % V  # [B, K]
        scores = gained.gather(1, picked).masked_fill(~alive, -torch.inf)
        beams = _grown(beams, parent, digit.gather(1, parent), code, gain.flatten(1).gather(1, picked), scores)
        origin = origin.gather(1, parent)
    return beams


def _compete(expected: LogProbabilities, logp: Tensor, reveal: int, beams: _Partial, index: PartialIndex, decoding: Decoding) -> _Partial:
    """Reveal so many digits of each beam, one after another: the K best of all beams, masked digits and codes together.

    Confidence-guided parallel denoising of DiffGRM (Liu et al. 2025, arXiv 2510.21805, equations 8 to 10): no digit is chosen before
    its code, and beams may differ in which digits they have revealed. Where two have the same, the better one stays, with what was
    expected of it.
    """
    S, V = logp.shape[2:]
    origin = torch.arange(logp.shape[1], device=logp.device).expand(logp.shape[:2])  # where in `logp` each beam came from
    for step in range(reveal):
        if step and isinstance(expected, Joint):
            gain = expected.again(beams.codes, origin)
        else:
            gain = logp.gather(1, origin[..., None, None].expand(-1, -1, S, V))
        gain = gain.masked_fill((beams.codes < V)[..., None], -torch.inf)  # [B, K', S, V]
        gained = (beams.scores[..., None, None] + gain).flatten(1)
        change = index.place[:, None] * (torch.arange(V, device=logp.device) - V)  # [S, V], of a beam's number
        numbers = (index.number(beams.codes)[..., None, None] + change).flatten(1)
        picked, alive = _best_valid(gained, numbers, index, decoding, merge=True)
        parent, digit, code = picked // (S * V), picked // V % S, picked % V  # [B, K]
        scores = gained.gather(1, picked).masked_fill(~alive, -torch.inf)
        beams = _grown(beams, parent, digit, code, gain.flatten(1).gather(1, picked), scores)
        origin = origin.gather(1, parent)
    return beams


def _grown(beams: _Partial, parent: Tensor, digit: Tensor, code: Tensor, gain: Tensor, scores: Tensor) -> _Partial:
    """The beams that reveal one more `digit` of their `parent`, all [B, K]: its code, the log-probability of that, the new score."""
    rows, own = parent[..., None].expand(-1, -1, beams.codes.shape[2]), digit[..., None]
    codes = beams.codes.gather(1, rows).scatter(2, own, code[..., None])
    return _Partial(codes, beams.gains.gather(1, rows).scatter(2, own, gain[..., None]), scores)


def _decide_again(log_probabilities: LogProbabilities, beams: _Partial, index: PartialIndex, decoding: Decoding) -> _Partial:
    """Mask the digit of each beam that was least certain when it was revealed, and decide it anew given all the others.

    Error correction by remasking (Wang et al. 2025, arXiv 2503.00307, deterministic here). The digit's new
    log-probability takes the place of the old one, so scores become those of a walk that ends with this digit.
    """
    digit = beams.gains.argmin(2, keepdim=True)  # [B, K, 1]
    masked = _Partial(
        beams.codes.scatter(2, digit, index.codes),
        beams.gains.scatter(2, digit, 0.0),
        beams.scores - beams.gains.gather(2, digit).squeeze(2),
    )
    return _reveal(log_probabilities, log_probabilities(masked.codes), digit, masked, index, decoding, merge=True)


def _first(numbers: Tensor) -> Tensor:
    """Which of the numbers [B, C] do not stand further left in their row too: bool [B, C]."""
    ranked, position = numbers.sort(dim=1, stable=True)
    new = torch.ones_like(ranked, dtype=torch.bool)
    new[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
    return torch.zeros_like(new).scatter(1, position, new)


def _best_valid(priority: Tensor, numbers: Tensor, index: PartialIndex, decoding: Decoding, merge: bool = False) -> tuple[Tensor, Tensor]:
    """The K best candidates of each user; if constrained, of those that are part of some item; to `merge`, the best of each number.

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
    if not (decoding.constrained or merge):
        values, picked = priority.topk(keep)
        return picked, values > -torch.inf
    picked = torch.zeros((B, keep), dtype=torch.int64, device=priority.device)
    alive = torch.zeros((B, keep), dtype=torch.bool, device=priority.device)
    rows, width = torch.arange(B, device=priority.device), min(WIDEN * keep, C)
    while len(rows):
        values, order = priority[rows].topk(width)
        seen = numbers[rows].gather(1, order)
        good = values > -torch.inf
        if decoding.constrained:
            good &= index.valid(seen)
        if merge:
            good &= _first(seen)
        front = good.byte().sort(dim=1, descending=True, stable=True).indices[:, :keep]  # valid ones first, still by priority
        picked[rows], alive[rows] = order.gather(1, front), good.gather(1, front)
        if width == C:
            break
        short = (good.sum(1) < keep) & (values[:, -1] > -torch.inf)
        rows, width = rows[short], min(WIDEN * width, C)
    return picked, alive


def _whole_catalogue(logp: Tensor, index: PartialIndex, beams: int) -> Beams:
    """Score every item with the log-probabilities [B, H, V] of one evaluation, a block of the catalogue at a time."""
    B, N = len(logp), len(index.sids)
    items, scores = (torch.empty((B, 0), dtype=kind, device=logp.device) for kind in (torch.int64, torch.float32))
    block = max(beams, CELLS // B)
    for start in range(0, N, block):
        sids = index.sids[start : start + block]
        best, place = of_items(logp, sids).topk(min(beams, len(sids)), dim=1)
        scores, order = torch.cat((scores, best), dim=1).topk(min(beams, start + len(sids)), dim=1)
        items = torch.cat((items, place + start), dim=1).gather(1, order)
    return Beams.of_items(items, scores)
