"""Exact search for the K best combinations that some item has, where pruning by upper bounds may have missed
one: by branch and bound, or over the items.

Shapes: B users, K beams, H digits per item, S digits in all, R digits that one function evaluation unmasks, Q
beams of all users, k items predicted together, V codes per digit."""

from __future__ import annotations

import torch
from torch import Tensor

from pipelines.data.candidates import group_starts
from pipelines.decode.sid_index import SidIndex
from pipelines.decode.state import BeamState, Unmasking

ROUNDING = 1e-4  # largest difference of float32 sums of a few log-probabilities
LARGE_CATALOG = (
    1 << 16
)  # above this number of items, counting agreeing items is faster than looking up partials
FEW_ITEMS = 1 << 11  # up to this number of items that agree with a user's beams, items are always enumerated
SHARE = 8  # branch and bound is assumed to follow one in so many of the next digit's codes
PAIRS = 1 << 20  # pairs of a beam and an agreeing item that are compared at once


def choose_search(
    unmasking: Unmasking, state: BeamState, lower_bound: Tensor, index: SidIndex
) -> tuple[Tensor, list[Tensor]]:
    """Choose for each user between branch and bound and the enumeration of agreeing items, for k = 1.

    Where a model is undecided, nearly all codes may reach the lower bound; for two digits their number is
    the product. Then there are fewer items that agree with the user's beams.

    Args:
        unmasking: the digits.
        state: beams before the digits are unmasked.
        lower_bound: score that K beams of each user are known to reach, float32 [B].
        index: the catalogue.

    Returns:
        Users for branch and bound, int64; and the other users, in groups that fit the memory.
    """
    if index.branches and len(index.sids) <= LARGE_CATALOG:
        return torch.arange(len(lower_bound), device=lower_bound.device), []
    agreeing = index.candidates.counts(state.codes.flatten(0, 1)).view(state.scores.shape).sum(1)  # [B]
    enumerated = torch.ones_like(agreeing, dtype=torch.bool)
    if index.branches:
        threshold = lower_bound[:, None] - state.scores - unmasking.remaining_bound[:, :, 0] - ROUNDING
        branches = (unmasking.logp[:, :, 0] >= threshold[..., None]).sum((1, 2))  # [B], after the first digit
        enumerated = agreeing <= (branches * (index.codes // SHARE)).clamp(min=FEW_ITEMS)
    rows = enumerated.nonzero().squeeze(1)
    sizes = torch.unique_consecutive(agreeing[rows].cumsum(0) // PAIRS, return_counts=True)[1]
    return (~enumerated).nonzero().squeeze(1), list(rows.split(sizes.tolist())) if len(rows) else []


def enumerate_items(
    unmasking: Unmasking, state: BeamState, lower_bound: Tensor, index: SidIndex, K: int
) -> BeamState:
    """Return the K best beams after all digits of a function evaluation, from the items that agree with the
    beams, for k = 1.

    Args:
        unmasking: the digits.
        state: beams before the digits are unmasked.
        lower_bound: score that K beams of each user are known to reach, float32 [B].
        index: the catalogue.
        K: number of beams to return.
    """
    row, item = index.candidates.pairs(state.codes.flatten(0, 1))  # [Q]
    allowed = ~index.eligible.excludes(row // state.codes.shape[1], item)
    row, item = row[allowed], item[allowed]
    user, beam = row // state.codes.shape[1], row % state.codes.shape[1]
    digits = unmasking.digits[user, beam]  # [Q, R]
    code = index.sids[item].long().gather(1, digits)  # [Q, R]
    steps = torch.arange(digits.shape[1], device=digits.device)
    token_log_prob = unmasking.logp[user[:, None], beam[:, None], steps, code]  # [Q, R]
    scores = state.scores[user, beam]  # [Q]
    for step in range(digits.shape[1]):
        scores = scores + token_log_prob[:, step]
    reaches = (scores >= lower_bound[user] - ROUNDING) & scores.isfinite()
    row, user, beam, scores = row[reaches], user[reaches], beam[reaches], scores[reaches]  # [Q']
    digits, code, token_log_prob = digits[reaches], code[reaches], token_log_prob[reaches]  # [Q', R]
    codes = state.codes[user, beam].scatter(1, digits, code)  # [Q', S]
    numbers = index.numbers(index.keys(codes)).unique(return_inverse=True)[1]
    key = row * len(row) + numbers
    order = key.argsort(stable=True)
    first = torch.ones_like(order, dtype=torch.bool)
    first[1:] = key[order[1:]] != key[order[:-1]]  # several items may have the same combination
    chosen = order[first]
    token_log_probs = state.token_log_probs[user, beam].scatter(1, digits, token_log_prob)
    beams = BeamState(codes, token_log_probs, scores).select(chosen)
    return _best_of_each_user(user[chosen], beams, index, len(state.codes), K)


def branch_and_bound(
    unmasking: Unmasking, state: BeamState, lower_bound: Tensor, index: SidIndex, K: int
) -> BeamState:
    """Return the K best beams after all digits of a function evaluation: every beam whose upper bound reaches
    the lower bound is extended.

    The beams of all users are in one list, since most users have few of them and some have many.

    Args:
        unmasking: the digits.
        state: beams before the digits are unmasked.
        lower_bound: score that K beams of each user are known to reach, float32 [B].
        index: the catalogue.
        K: number of beams to return.
    """
    user, beam = state.scores.isfinite().nonzero(as_tuple=True)  # [Q], beam before the evaluation
    codes, token_log_probs = state.codes[user, beam], state.token_log_probs[user, beam]  # [Q, S]
    scores = state.scores[user, beam]  # [Q]
    for step in range(unmasking.digits.shape[2]):
        digit = unmasking.digits[user, beam, step]
        threshold = lower_bound[user] - scores - unmasking.remaining_bound[user, beam, step] - ROUNDING
        parent, code = unmasking.codes_above(step, user, beam, threshold)
        items = codes.unflatten(1, (-1, index.digits))  # [Q, k, H]
        keys = index.keys(items[torch.arange(len(items), device=items.device), digit // index.digits])
        valid = index.valid(index.unmask(keys[parent], digit[parent] % index.digits, code), user[parent])
        parent, code = parent[valid], code[valid]
        user, beam, digit = user[parent], beam[parent], digit[parent, None]
        token_log_prob = unmasking.logp[user, beam, step, code]
        codes = codes[parent].scatter(1, digit, code[:, None])
        token_log_probs = token_log_probs[parent].scatter(1, digit, token_log_prob[:, None])
        scores = scores[parent] + token_log_prob
    return _best_of_each_user(user, BeamState(codes, token_log_probs, scores), index, len(lower_bound), K)


def _best_of_each_user(user: Tensor, state: BeamState, index: SidIndex, users: int, K: int) -> BeamState:
    """Return the K best of the Q beams of each user; of equal scores those of the lower items.

    Args:
        user: int64 [Q]; every user has K beams or more.
        state: the Q beams.
        index: the catalogue.
        users: B.
        K: number of beams to return.
    """
    order = torch.arange(len(user), device=user.device)
    keys = index.tie_break(index.keys(state.codes.unflatten(1, (-1, index.digits))))  # [Q, k]
    for key, descending in (*((part, False) for part in keys.T.flip(0)), (state.scores, True), (user, False)):
        order = order[key[order].argsort(descending=descending, stable=True)]
    starts = group_starts(torch.bincount(user, minlength=users))  # [B]
    return state.select(order[starts[:, None] + torch.arange(K, device=user.device)])
