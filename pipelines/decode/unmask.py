"""One function evaluation of a beam search: unmask digits and keep the K best beams (paper, section 3.2).

Shapes: B users, K beams, H digits per item, S digits in all, R digits that one function evaluation unmasks, V
codes per digit."""

from __future__ import annotations

import torch
from torch import Tensor

from pipelines.decode.bounded import branch_and_bound, choose_search, enumerate_items
from pipelines.decode.combinations import unmask_item_softmax, unmask_several_items
from pipelines.decode.config import Decoding
from pipelines.decode.sid_index import SidIndex
from pipelines.decode.state import BeamState, Unmasking
from pipelines.decode.top_k import best_candidates
from pipelines.models.denoiser import Denoiser


def unmask_digits(
    denoiser: Denoiser,
    logp: Tensor,
    digits: Tensor,
    state: BeamState,
    index: SidIndex,
    decoding: Decoding,
    *,
    merge: bool = False,
) -> BeamState:
    """Unmask digits of each beam and keep the K best of all combinations of codes; if constrained, of the
    combinations that some item has.

    Digits are unmasked one after another. While digits of this evaluation are still masked, a beam is ranked
    by an upper bound: its score plus the largest log-probabilities that these digits can add, for any
    catalogue. Without a constraint this greedy search returns the K best. With a constraint a beam may not
    reach its upper bound, because no item has those codes, and a pruned beam may be better. Where the upper
    bound of a pruned beam exceeds the K-th score, an exact search follows (module `bounded`).

    Args:
        denoiser: its last function evaluation was of `state`.
        logp: log-probabilities of that evaluation, [B, K, S, V].
        digits: int64 [B, K, R].
        state: beams before the digits are unmasked.
        index: the catalogue.
        decoding: K and the constraint.
        merge: if true, beams may arrive at the same partial SID; the better one stays.
    """
    agreeing = denoiser.agreeing(state.codes) if digits.shape[2] > 1 else None
    if agreeing:
        return unmask_item_softmax(denoiser, agreeing, digits, state, index, decoding)
    if digits.shape[2] > 1 and decoding.constrained and logp.shape[2] > index.digits:
        return unmask_several_items(logp, digits, state, index, decoding.beams)
    digit_logp = logp.gather(2, digits[..., None].expand(-1, -1, -1, logp.shape[3]))  # [B, K, R, V]
    if digits.shape[2] > 1 and decoding.constrained:  # tightens the upper bounds, and changes no result
        digit_logp = digit_logp.masked_fill_(~index.used_codes[digits % index.digits], -torch.inf)
    unmasking = Unmasking(digits, digit_logp)
    best, pruned_bound = unmask_by_upper_bound(unmasking, state, index, decoding, merge)
    if decoding.constrained:
        inexact = (pruned_bound > best.scores[:, -1]).nonzero().squeeze(1)
        if len(inexact):
            _search_exactly(inexact, unmasking, state, best, index)
    return best


def _search_exactly(
    users: Tensor, unmasking: Unmasking, state: BeamState, best: BeamState, index: SidIndex
) -> None:
    """Replace the beams of some users in `best` by the K best of all."""
    unmasking, state = unmasking.select(users), state.select(users)
    lower_bound, K = best.scores[users, -1], best.scores.shape[1]
    bounded, groups = choose_search(unmasking, state, lower_bound, index)
    for rows in groups:
        part, beams, chosen = unmasking.select(rows), state.select(rows), index.select(users[rows])
        best.assign(users[rows], enumerate_items(part, beams, lower_bound[rows], chosen, K))
    if len(bounded):
        unmasking, state = unmasking.select(bounded), state.select(bounded)
        chosen = index.select(users[bounded])
        best.assign(users[bounded], branch_and_bound(unmasking, state, lower_bound[bounded], chosen, K))


def unmask_by_upper_bound(
    unmasking: Unmasking, state: BeamState, index: SidIndex, decoding: Decoding, merge: bool
) -> tuple[BeamState, Tensor]:
    """Unmask digits one after another, and keep the K beams with the largest upper bounds after each.

    Returns:
        The beams, and the largest upper bound of a pruned beam, float32 [B].
    """
    (B, K, R), V, H = unmasking.digits.shape, unmasking.logp.shape[3], index.digits
    origin = torch.arange(K, device=unmasking.digits.device).expand(B, K)  # beam before the evaluation
    pruned_bound = state.scores.new_full((B,), -torch.inf)
    for step in range(R):
        last = step == R - 1
        digit = unmasking.digits[:, :, step].gather(1, origin)  # [B, K']
        logp = unmasking.logp[:, :, step].gather(1, origin[..., None].expand(-1, -1, V))  # [B, K', V]
        bound = state.scores[..., None] + logp  # [B, K', V]
        if not last:
            bound = bound + unmasking.remaining_bound[:, :, step].gather(1, origin)[..., None]
        items, place = _items_of(state.codes, digit, H), digit % H  # [B, K', H], [B, K']
        keys = index.keys(items)

        def children(users: Tensor, columns: Tensor, keys: Tensor = keys, place: Tensor = place) -> Tensor:
            users, parent, code = users[:, None], columns // V, columns % V
            return index.unmask(keys[users, parent], place[users, parent], code)

        valid = None
        if decoding.constrained:
            bound, valid = index.constrain(bound, items, place)
        bound = bound.flatten(1)  # [B, K'·V]
        keep = decoding.beams + (not last)  # one more than K, for the bound of pruned beams
        columns, exists = best_candidates(bound, children, index, keep, valid, merge)
        if columns.shape[1] > decoding.beams:
            next_bound = bound.gather(1, columns[:, -1:]).masked_fill(~exists[:, -1:], -torch.inf).squeeze(1)
            pruned_bound = torch.maximum(pruned_bound, next_bound)
            columns, exists = columns[:, :-1], exists[:, :-1]
        parent = columns // V  # [B, K]
        token_log_prob = logp.flatten(1).gather(1, columns)
        state = state.unmask(parent, digit.gather(1, parent), columns % V, token_log_prob, exists)
        origin = origin.gather(1, parent)
    return state, pruned_bound


def _items_of(codes: Tensor, digit: Tensor, H: int) -> Tensor:
    """Return the partial SIDs of the items that digits [B, K] belong to, of beams [B, K, S]: [B, K, H]."""
    if codes.shape[2] == H:
        return codes
    items = codes.unflatten(2, (-1, H))
    return items.gather(2, (digit // H)[..., None, None].expand(-1, -1, 1, H)).squeeze(2)


def unmask_by_confidence(
    denoiser: Denoiser,
    logp: Tensor,
    count: int,
    state: BeamState,
    index: SidIndex,
    decoding: Decoding,
) -> BeamState:
    """Unmask `count` digits of each beam, one after another; all beams, masked digits, and codes compete.

    This is the confidence-guided parallel denoising of DiffGRM (Liu et al. 2025, arXiv 2510.21805, equations
    8 to 10). No digit is chosen before its code, and beams may differ in which digits are unmasked. Of beams
    with the same partial SID the better one stays, with its log-probabilities.

    Args:
        denoiser: its last function evaluation was of `state`.
        logp: log-probabilities of that evaluation, [B, K, S, V].
        count: number of digits.
        state: beams before the digits are unmasked.
        index: the catalogue.
        decoding: K and the constraint.
    """
    S, V = logp.shape[2:]
    origin = torch.arange(logp.shape[1], device=logp.device).expand(logp.shape[:2])  # beam in `logp`
    for step in range(count):
        refined = denoiser.refine(state.codes, origin) if step else logp
        refined = refined.masked_fill((state.codes < V)[..., None], -torch.inf)  # [B, K', S, V]
        scores, valid = state.scores[..., None, None] + refined, None
        if decoding.constrained:
            scores, valid = index.constrain(scores, state.codes)
        keys = index.keys(state.codes)

        def children(users: Tensor, columns: Tensor, keys: Tensor = keys) -> Tensor:
            parents = keys[users[:, None], columns // (S * V)]
            return index.unmask(parents, columns // V % S, columns % V)

        columns, exists = best_candidates(
            scores.flatten(1), children, index, decoding.beams, valid, merge=True
        )
        parent, digit = columns // (S * V), columns // V % S  # [B, K]
        token_log_prob = refined.flatten(1).gather(1, columns)
        state = state.unmask(parent, digit, columns % V, token_log_prob, exists)
        origin = origin.gather(1, parent)
    return state


def remask(denoiser: Denoiser, state: BeamState, index: SidIndex, decoding: Decoding) -> BeamState:
    """Mask the least certain digit of each beam, and unmask it again given all other digits.

    The least certain digit is the one with the smallest log-probability when it was unmasked. This is error
    correction by remasking (Wang et al. 2025, arXiv 2503.00307; deterministic here). The digit's new
    log-probability replaces the old one, so that a score becomes that of a path that ends with this digit."""
    digit = state.token_log_probs.argmin(2, keepdim=True)  # [B, K, 1]
    scores = state.scores - state.token_log_probs.gather(2, digit).squeeze(2)
    masked = BeamState(
        state.codes.scatter(2, digit, index.codes),
        state.token_log_probs.scatter(2, digit, 0.0),
        scores.masked_fill(state.scores.isneginf(), -torch.inf),  # also where the digit has the score −inf
    )
    return unmask_digits(denoiser, denoiser(masked.codes), digit, masked, index, decoding, merge=True)
