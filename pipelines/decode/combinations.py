"""One function evaluation that unmasks several digits at a time, over the combinations of codes that items
have.

This serves the item softmax, where a combination's probability is a sum over items, and several items that
are predicted together, whose combinations multiply.

Shapes: B users, K beams, k items predicted together, H digits per item, S = k·H digits, R digits that one
function evaluation unmasks, V codes per digit, N items, G combinations that items have at a set of digits, C
combinations that are open to a beam's item, Q pairs of a row of the B·K·k beams' items and an agreeing item
of the catalogue."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from pipelines.data.candidates import group_starts
from pipelines.decode.config import Decoding
from pipelines.decode.sid_index import SidIndex
from pipelines.decode.state import CELLS, BeamState
from pipelines.decode.top_k import best_candidates
from pipelines.models.denoiser import Agreeing, Denoiser

DENSE = 16  # combinations of all items are tabulated where one item in so many agrees

# values [Q], position of each value's combination [Q], number of positions → log-probabilities [positions]
Reduction = Callable[[Tensor, Tensor, int], Tensor]


class _Pairs(NamedTuple):
    """Pairs of a row of the B·K·k beams' items and an agreeing item.

    Attributes:
        rows: int64 [Q].
        items: numbers in the catalogue, int64 [Q].
        values: probability or log-probability of each pair, float32 [Q].
    """

    rows: Tensor
    items: Tensor
    values: Tensor


def unmask_item_softmax(
    denoiser: Denoiser,
    agreeing: Agreeing,
    digits: Tensor,
    state: BeamState,
    index: SidIndex,
    decoding: Decoding,
) -> BeamState:
    """Unmask digits of an item softmax: a combination's probability is the sum over the items that have it.

    Args:
        denoiser: the model; its last function evaluation was of `state`.
        agreeing: distribution over items of that evaluation.
        digits: int64 [B, K, R].
        state: beams before the digits are unmasked.
        index: the catalogue.
        decoding: K, and the number of digits to remask.
    """
    combinations = _Combinations(digits, state, index, _Pairs(*agreeing), _log_of_sum)
    best, origin = _best(combinations, state, index, decoding.beams)
    if not decoding.remask:
        return best
    token_log_probs = _chain_log_probs(denoiser, best.codes, digits, state, origin)
    return dataclasses.replace(best, token_log_probs=token_log_probs)


def unmask_several_items(
    logp: Tensor, digits: Tensor, state: BeamState, index: SidIndex, K: int
) -> BeamState:
    """Unmask independent digits of several items that are predicted together, constrained.

    Args:
        logp: [B, K, S, V].
        digits: int64 [B, K, R].
        state: beams before the digits are unmasked.
        index: the catalogue.
        K: number of beams to keep.
    """
    B, beams, S, V = logp.shape
    H = index.digits
    results = []
    users_at_once = max(1, CELLS // (beams * S * len(index.sids)))
    for users in torch.arange(B, device=logp.device).split(users_at_once):
        part = state.select(users)
        chosen = torch.zeros_like(part.codes).scatter(2, digits[users], 1)  # [B', K, S]
        rows, items = index.candidates.pairs(part.codes.reshape(-1, H))
        chosen_index = index.select(users)  # users are counted anew in each part
        allowed = ~chosen_index.eligible.excludes(rows // (beams * (S // H)), items)
        rows, items = rows[allowed], items[allowed]
        table = (logp[users] * chosen[..., None]).reshape(-1, H * V)  # [B'·K·k, H·V], 0 for other digits
        values = logp.new_zeros(len(rows))
        for h in range(H):
            values = values + table[rows, h * V + index.sids[items, h]]
        pairs = _Pairs(rows, index.eligible.items_of(items), values)
        combinations = _Combinations(digits[users], part, chosen_index, pairs, _any)
        results.append(_best(combinations, part, chosen_index, K)[0])
    return BeamState(
        torch.cat([result.codes for result in results]),
        torch.cat([result.token_log_probs for result in results]),
        torch.cat([result.scores for result in results]),
    )


def _best(combinations: _Combinations, state: BeamState, index: SidIndex, K: int) -> tuple[BeamState, Tensor]:
    """Return the K best choices of a combination for each of the k items, and the beam before the evaluation
    of each, [B, K].

    Items that are predicted together are independent of each other. The log-probabilities of single digits
    are left at 0.
    """
    origin = torch.arange(state.codes.shape[1], device=state.codes.device).expand(state.scores.shape)
    scores = state.scores
    valid = index.valid if index.eligible.restricted else None
    items: list[Tensor] = []  # partial SIDs of the items so far, [B, K', H] each
    parts, C = combinations.values.shape[2:]
    for part in range(parts):
        totals = scores[..., None] + combinations.of(origin, part)  # [B, K', C]
        bound = totals
        for later in range(part + 1, parts):
            bound = bound + combinations.of(origin, later).amax(-1, keepdim=True)

        def children(users: Tensor, columns: Tensor, origin: Tensor = origin, part: int = part) -> Tensor:
            beams = origin[users].gather(1, columns // C)
            return combinations.keys(users[:, None], beams, part, columns % C)

        columns, exists = best_candidates(bound.flatten(1), children, index, K, valid)
        parent = columns // C
        scores = totals.flatten(1).gather(1, columns).masked_fill(~exists, -torch.inf)
        users = torch.arange(len(columns), device=columns.device)
        items = [item[users[:, None], parent] for item in items]
        items.append(index.codes_of(children(users, columns)))
        origin = origin.gather(1, parent)
    codes = torch.cat(items, dim=2)  # [B, K, S]
    return BeamState(codes, torch.zeros_like(codes, dtype=scores.dtype), scores), origin


def _log_of_sum(probabilities: Tensor, position: Tensor, size: int) -> Tensor:
    """Return the logarithm of the summed probabilities of each position, −inf where the sum is 0."""
    mass = probabilities.new_zeros(size).index_add_(0, position, probabilities)
    none = mass == 0  # most of them; and on a CPU the logarithm of 0 takes five times as long as others
    return mass.masked_fill_(none, 1.0).log_().masked_fill_(none, -torch.inf)


def _any(log_probs: Tensor, position: Tensor, size: int) -> Tensor:
    """Return the log-probability of each position, which all its pairs share; −inf where there is no pair."""
    return log_probs.new_full((size,), -torch.inf).scatter_reduce_(0, position, log_probs, "amax")


class _Combinations:
    """The combinations of codes that each of the k items of a beam can take in one function evaluation.

    Attributes:
        values: their log-probabilities, float32 [B, K, k, C]; −inf where there is none.
    """

    def __init__(
        self, digits: Tensor, state: BeamState, index: SidIndex, pairs: _Pairs, reduction: Reduction
    ) -> None:
        """
        Args:
            digits: digits to unmask, int64 [B, K, R].
            state: beams before the digits are unmasked.
            index: the catalogue.
            pairs: items that agree with the rows of B·K·k.
            reduction: computes a combination's log-probability from the values of its items.
        """
        codes = state.codes.unflatten(2, (-1, index.digits))  # [B, K, k, H]
        chosen = torch.zeros_like(state.codes).scatter(2, digits, 1).view(codes.shape)
        self._keys = index.keys(codes)  # of [B, K, k] items
        self._groups = index.group(chosen.flatten(0, 2).bool(), pairs.rows, pairs.items)
        R, G, group = codes[..., 0].numel(), self._groups.size, self._groups.of_pairs
        if len(pairs.rows) * DENSE > R * G:  # most items agree
            values = reduction(pairs.values, pairs.rows * G + group, R * G).view(R, G)
            columns = torch.arange(G, device=group.device).expand(R, G)
        else:
            key, position = (pairs.rows * G + group).unique(return_inverse=True)
            row = key // G
            counts = torch.bincount(row, minlength=R)
            column = torch.arange(len(key), device=key.device) - group_starts(counts)[row]
            size = (R, max(1, int(counts.max())))
            values, columns = pairs.values.new_full(size, -torch.inf), key.new_zeros(size)
            values[row, column] = reduction(pairs.values, position, len(key))
            columns[row, column] = key % G
        self.values = values.view(*codes.shape[:3], -1)
        self._columns = columns.view(*codes.shape[:3], -1)  # [B, K, k, C], into G

    def of(self, origin: Tensor, part: int) -> Tensor:
        """Return the log-probabilities of an item's combinations, float32 [B, K', C].

        Args:
            origin: beam before the evaluation that each beam descends from, int64 [B, K'].
            part: position of the item among the k items.
        """
        return self.values[:, :, part].gather(1, origin[..., None].expand(-1, -1, self.values.shape[3]))

    def keys(self, users: Tensor, beams: Tensor, part: int, columns: Tensor) -> Tensor:
        """Return the keys of the partial SIDs that an item becomes.

        Args:
            users: int64, any shape.
            beams: beams before the evaluation, int64.
            part: position of the item among the k items.
            columns: combinations as positions among C, int64.
        """
        (_, K, k), group = self.values.shape[:3], self._columns[users, beams, part, columns]
        change = self._groups.change((users * K + beams) * k + part, group)
        return self._keys[users, beams, part] + change


def _chain_log_probs(
    denoiser: Denoiser, codes: Tensor, digits: Tensor, state: BeamState, origin: Tensor
) -> Tensor:
    """Compute the log-probability of each digit given the digits unmasked before it in the same function
    evaluation, [B, K, S].
    """
    rows = origin[..., None].expand_as(codes)
    partial, token_log_probs = state.codes.gather(1, rows), state.token_log_probs.gather(1, rows)
    for step in range(digits.shape[2]):
        digit = digits[:, :, step].gather(1, origin)[..., None]  # [B, K, 1]
        refined = denoiser.refine(partial, origin)  # [B, K, S, V]
        code = codes.gather(2, digit).clamp(max=refined.shape[3] - 1)  # V where there is no beam
        logp = refined.gather(2, digit[..., None].expand(-1, -1, -1, refined.shape[3]))
        token_log_probs = token_log_probs.scatter(2, digit, logp.squeeze(2).gather(2, code))
        partial = partial.scatter(2, digit, code)
    return token_log_probs
