"""One evaluation of a beam search: the digits that it reveals, and the K best beams after it (paper, section 3.2).

Shapes: B users, K beams, H digits an item, S digits in all, R digits an evaluation reveals, V codes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipelines.decode.bounded import by_items, follow_all, follow_items
from pipelines.decode.combinations import reveal_items, reveal_jointly
from pipelines.decode.config import Decoding
from pipelines.decode.index import PartialIndex
from pipelines.decode.partial import Asked, Partial
from pipelines.decode.top import best_candidates
from pipelines.models.sid.item_softmax import Denoiser, ItemSoftmax


def reveal(
    expected: Denoiser,
    logp: Tensor,
    digits: Tensor,
    beams: Partial,
    index: PartialIndex,
    decoding: Decoding,
    merge: bool = False,
) -> Partial:
    """Reveal digits of each beam and keep the K best of all their combinations of codes; if constrained, of those that some item has.

    Digits are added one after another. A beam that lacks some is ranked by the most that they can add, whatever the catalogue holds.
    Without a constraint the K most promising beams lead to the K best. With one, no item may have what they promise, and a beam that
    was left out may be better: its promise says whether it can be. Where it can, all beams that can are followed, or all items (`bounded`).

    Args:
        expected: the model.
        logp: its log-probabilities [B, K, S, V] for `beams`.
        digits: int64 [B, K, R].
        merge: beams may come to the same partial SID; the better one stays.
    """
    if digits.shape[2] > 1 and isinstance(expected, ItemSoftmax):
        return reveal_jointly(expected, digits, beams, index, decoding)
    if digits.shape[2] > 1 and decoding.constrained and logp.shape[2] > index.digits:
        return reveal_items(logp, digits, beams, index, decoding)
    asked = Asked(digits, logp.gather(2, digits[..., None].expand(-1, -1, -1, logp.shape[3])))
    found, lost = most_promising(asked, beams, index, decoding, merge)
    missed = (lost > found.scores[:, -1]).nonzero().squeeze(1) if decoding.constrained else digits[:0, 0, 0]
    if len(missed):
        asked, beams, floor = asked.of(missed), beams.of(missed), found.scores[missed, -1]
        rest, groups = by_items(asked, beams, floor, index)
        for rows in groups:
            found.put(missed[rows], follow_items(asked.of(rows), beams.of(rows), index, decoding.beams))
        if len(rest):
            found.put(
                missed[rest], follow_all(asked.of(rest), beams.of(rest), floor[rest], index, decoding.beams)
            )
    return found


def most_promising(
    asked: Asked, beams: Partial, index: PartialIndex, decoding: Decoding, merge: bool
) -> tuple[Partial, Tensor]:
    """The K most promising beams after each digit, and the best promise of a beam that was left out, float32 [B]."""
    (B, K, R), V, H = asked.digits.shape, asked.logp.shape[3], index.digits
    origin = torch.arange(K, device=asked.digits.device).expand(
        B, K
    )  # the beam at the beginning that each comes from
    lost = beams.scores.new_full((B,), -torch.inf)
    for step in range(R):
        more = step < R - 1
        digit = asked.digits[:, :, step].gather(1, origin)  # [B, K']
        token_log_prob = asked.logp[:, :, step].gather(1, origin[..., None].expand(-1, -1, V))  # [B, K', V]
        gained = beams.scores[..., None] + token_log_prob
        promise = (
            gained + asked.remaining_bound[:, :, step].gather(1, origin)[..., None] if more else gained
        ).flatten(1)
        place = index.place[digit % H]  # [B, K']
        items = index.number(beams.codes.unflatten(2, (-1, H)))  # [B, K', k]
        begun = items.gather(2, (digit // H)[..., None]).squeeze(2) - V * place

        def numbers(rows: Tensor, picked: Tensor, begun: Tensor = begun, place: Tensor = place) -> Tensor:
            parent, code = picked // V, picked % V
            return begun[rows].gather(1, parent) + place[rows].gather(1, parent) * code

        picked, alive = best_candidates(
            promise, numbers, index, decoding.beams + more, decoding.constrained, merge
        )
        if picked.shape[1] > decoding.beams:  # one more than is kept
            next_best = promise.gather(1, picked[:, -1:]).masked_fill(~alive[:, -1:], -torch.inf).squeeze(1)
            lost, picked, alive = torch.maximum(lost, next_best), picked[:, :-1], alive[:, :-1]
        parent = picked // V
        scores = gained.flatten(1).gather(1, picked).masked_fill(~alive, -torch.inf)
        beams = beams.grown(
            parent, digit.gather(1, parent), picked % V, token_log_prob.flatten(1).gather(1, picked), scores
        )
        origin = origin.gather(1, parent)
    return beams, lost


def compete(
    expected: Denoiser,
    logp: Tensor,
    count: int,
    beams: Partial,
    index: PartialIndex,
    decoding: Decoding,
) -> Partial:
    """Reveal `count` digits of each beam, one after another: the K best of all beams, masked digits and codes together.

    Confidence-guided parallel denoising of DiffGRM (Liu et al. 2025, arXiv 2510.21805, equations 8 to 10): no digit is chosen before
    its code, and beams may differ in which digits they have revealed. Where two have the same, the better one stays, with what was
    expected of it.
    """
    S, V = logp.shape[2:]
    origin = torch.arange(logp.shape[1], device=logp.device).expand(
        logp.shape[:2]
    )  # where in `logp` each beam came from
    change = (
        index.place[:, None] * (torch.arange(V, device=logp.device) - V)
    ).flatten()  # [S·V], of a beam's number
    for step in range(count):
        if step and isinstance(expected, ItemSoftmax):
            token_log_prob = expected.again(beams.codes, origin)
        else:
            token_log_prob = logp.gather(1, origin[..., None, None].expand(-1, -1, S, V))
        token_log_prob = token_log_prob.masked_fill((beams.codes < V)[..., None], -torch.inf)  # [B, K', S, V]
        gained = (beams.scores[..., None, None] + token_log_prob).flatten(1)
        begun = index.number(beams.codes)  # [B, K']

        def numbers(rows: Tensor, picked: Tensor, begun: Tensor = begun) -> Tensor:
            return begun[rows].gather(1, picked // (S * V)) + change[picked % (S * V)]

        picked, alive = best_candidates(
            gained, numbers, index, decoding.beams, decoding.constrained, merge=True
        )
        parent, digit = picked // (S * V), picked // V % S  # [B, K]
        scores = gained.gather(1, picked).masked_fill(~alive, -torch.inf)
        beams = beams.grown(parent, digit, picked % V, token_log_prob.flatten(1).gather(1, picked), scores)
        origin = origin.gather(1, parent)
    return beams


def decide_again(denoiser: Denoiser, beams: Partial, index: PartialIndex, decoding: Decoding) -> Partial:
    """Mask the digit of each beam that was least certain when it was revealed, and decide it anew given all the others.

    Error correction by remasking (Wang et al. 2025, arXiv 2503.00307, deterministic here). The digit's new
    log-probability takes the place of the old one, so scores become those of a walk that ends with this digit.
    """
    digit = beams.token_log_probs.argmin(2, keepdim=True)  # [B, K, 1]
    masked = Partial(
        beams.codes.scatter(2, digit, index.codes),
        beams.token_log_probs.scatter(2, digit, 0.0),
        beams.scores - beams.token_log_probs.gather(2, digit).squeeze(2),
    )
    return reveal(denoiser, denoiser(masked.codes), digit, masked, index, decoding, merge=True)
