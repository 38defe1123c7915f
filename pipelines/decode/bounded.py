"""The K best combinations that an item has, where the K most promising beams may have missed one: by branch and bound, or by the items.

Shapes: B users, K beams, H digits an item, S digits in all, R digits an evaluation reveals, Q beams of all users, k items that come next.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipelines.decode.index import PartialIndex
from pipelines.decode.partial import Asked, Partial

ROUNDING = 1e-4  # more than float32 sums of a few log-probabilities differ by
LARGE = 1 << 16  # items of a catalogue whose partial SIDs take longer to look up than its items to count
FEW = 1 << 11  # items that agree with a user's beams, which are always looked at one by one
SHARE = 8  # of the next digit's codes one in so many is followed too, at a guess
PAIRS = 1 << 20  # pairs of a beam and an item that agrees with it looked at at once


def by_items(asked: Asked, beams: Partial, floor: Tensor, index: PartialIndex) -> tuple[Tensor, list[Tensor]]:
    """Which users take more work by branch and bound than by the items that agree with their beams; one item comes next.

    Where a model is undecided nearly all codes may come to the floor, and those of two digits are their product.

    Returns:
        The users that are followed by branch and bound, int64, and the others, in groups that fit the memory.
    """
    if len(index.sids) <= LARGE:
        return torch.arange(len(floor), device=floor.device), []
    agreeing = index.candidates.counts(beams.codes.flatten(0, 1)).view(beams.scores.shape).sum(1)  # [B]
    least = floor[:, None] - beams.scores - asked.remaining_bound[:, :, 0] - ROUNDING
    followed = (asked.logp[:, :, 0] >= least[..., None]).sum((1, 2))  # [B], after the first digit
    few = agreeing <= (followed * (index.codes // SHARE)).clamp(min=FEW)
    rows = few.nonzero().squeeze(1)
    sizes = torch.unique_consecutive(agreeing[rows].cumsum(0) // PAIRS, return_counts=True)[1]
    return (~few).nonzero().squeeze(1), list(rows.split(sizes.tolist())) if len(rows) else []


def follow_items(asked: Asked, beams: Partial, index: PartialIndex, K: int) -> Partial:
    """As `follow_all`, from the items that agree with the beams, for one item that comes next."""
    row, item = index.candidates.pairs(beams.codes.flatten(0, 1))  # [Q]
    user, beam = row // beams.codes.shape[1], row % beams.codes.shape[1]
    digits = asked.digits[user, beam]  # [Q, R]
    code = index.sids[item].gather(1, digits)
    codes = beams.codes[user, beam].scatter(1, digits, code)
    key = row * len(index.partials) + torch.searchsorted(index.partials, index.number(codes))
    order = key.argsort(stable=True)
    first = torch.ones_like(order, dtype=torch.bool)
    first[1:] = key[order[1:]] != key[order[:-1]]  # several items may have a combination
    one = order[first & beams.scores[user, beam][order].isfinite()]
    user, beam, digits, code, codes = user[one], beam[one], digits[one], code[one], codes[one]
    token_log_prob = asked.logp[
        user[:, None], beam[:, None], torch.arange(digits.shape[1], device=digits.device), code
    ]
    scores = beams.scores[user, beam]
    for step in range(digits.shape[1]):
        scores = scores + token_log_prob[:, step]
    return _best_of_each(
        user,
        codes,
        beams.token_log_probs[user, beam].scatter(1, digits, token_log_prob),
        scores,
        index,
        len(beams.codes),
        K,
    )


def follow_all(asked: Asked, beams: Partial, floor: Tensor, index: PartialIndex, K: int) -> Partial:
    """The K best beams after all digits of an evaluation: every beam is followed that may come to the floor.

    Beams of all users lie in one list, since most users have few of them and some have many.

    Args:
        beams: before the evaluation.
        floor: a score that K beams of each user are known to reach, float32 [B].
    """
    user, beam = beams.scores.isfinite().nonzero(
        as_tuple=True
    )  # [Q], the beam at the beginning that each comes from
    codes, token_log_probs, scores = (
        beams.codes[user, beam],
        beams.token_log_probs[user, beam],
        beams.scores[user, beam],
    )
    for step in range(asked.digits.shape[2]):
        digit = asked.digits[user, beam, step]
        parent, code = asked.codes_above(
            step, user, beam, floor[user] - scores - asked.remaining_bound[user, beam, step] - ROUNDING
        )
        good = index.valid(
            _numbers(codes, digit, index)[parent]
            + index.place[digit % index.digits][parent] * (code - index.codes)
        )
        parent, code = parent[good], code[good]
        user, beam, digit = user[parent], beam[parent], digit[parent, None]
        token_log_prob = asked.logp[user, beam, step, code]
        codes, token_log_probs = (
            codes[parent].scatter(1, digit, code[:, None]),
            token_log_probs[parent].scatter(1, digit, token_log_prob[:, None]),
        )
        scores = scores[parent] + token_log_prob
    return _best_of_each(user, codes, token_log_probs, scores, index, len(floor), K)


def _numbers(codes: Tensor, digit: Tensor, index: PartialIndex) -> Tensor:
    """The partial SIDs, in codes [Q, S], of the items that the digits [Q] belong to: int64 [Q]."""
    items = index.number(codes.unflatten(1, (-1, index.digits)))  # [Q, k]
    return items.gather(1, digit[:, None] // index.digits).squeeze(1)


def _best_of_each(
    user: Tensor,
    codes: Tensor,
    token_log_probs: Tensor,
    scores: Tensor,
    index: PartialIndex,
    users: int,
    K: int,
) -> Partial:
    """The K best of the Q beams of each user, all of which have K or more; of equal scores the lower items."""
    order = torch.arange(len(user), device=user.device)
    parts = index.order(index.number(codes.unflatten(1, (-1, index.digits))))  # [Q, k]
    for key, descending in (*((part, False) for part in parts.T.flip(0)), (scores, True), (user, False)):
        order = order[key[order].argsort(descending=descending, stable=True)]
    counts = torch.bincount(user, minlength=users)
    first = (counts.cumsum(0) - counts)[:, None] + torch.arange(K, device=user.device)  # [B, K]
    kept = order[first]
    return Partial(codes[kept], token_log_probs[kept], scores[kept])
