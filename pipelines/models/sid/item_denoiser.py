"""Denoisers whose masked digits have one joint distribution, over the items that agree with the visible
digits.

The probability of a code is the sum over the items that have it and agree, in any order of unmasking. What
gives the items their logits is the matter of the subclasses.

Shapes: B users, K beams, k items predicted together, H digits per item, S = k·H digits, V codes per digit, N
items, D width, R states, Q pairs of a state and an item."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property

import torch
from torch import Tensor

from pipelines.data.candidates import CandidateIndex
from pipelines.models.denoiser import Agreeing, Denoiser, ItemScores

PAIRS = 1 << 20  # pairs whose digits are looked up at once


class ItemDenoiser(ABC):
    """Denoiser of a distribution over items.

    The log-probabilities are −inf where no item agrees, and 0 at the digits of a partial semantic ID that no
    item has. Items that are predicted together (k > 1) are independent of each other given what is visible.
    """

    def __init__(self, candidates: CandidateIndex) -> None:
        """
        Args:
            candidates: candidate index of the catalogue.
        """
        self.candidates = candidates
        self._last: Tensor | None = None  # states of the last function evaluation, [B, K, k, D]

    @abstractmethod
    def evaluate(self, codes: Tensor) -> Tensor:
        """Run one function evaluation: codes [B, K, S] → states [B, K, k, D], from which logits come."""

    @abstractmethod
    def logits_of(self, states: Tensor, row: Tensor, item: Tensor) -> Tensor:
        """Return the logits of pairs of one of the states [R, D] and an item, float32 [Q].

        Args:
            states: as `evaluate` returns them, one after another.
            row: int64 [Q].
            item: int64 [Q].
        """

    @abstractmethod
    def score_items(self, codes: Tensor, sids: Tensor) -> ItemScores:
        """Score items in one function evaluation; see `Denoiser`."""

    def __call__(self, codes: Tensor) -> Tensor:
        self._last = self.evaluate(codes)
        return self._marginals(self._last, codes)

    def refine(self, codes: Tensor, origin: Tensor) -> Tensor:
        assert self._last is not None, "no function evaluation to refine"
        states = self._last.gather(1, origin[:, :, None, None].expand(-1, -1, *self._last.shape[2:]))
        return self._marginals(states, codes)

    def agreeing(self, codes: Tensor) -> Agreeing:
        assert self._last is not None, "no function evaluation to take items from"
        H = self.candidates.sids.shape[1]
        return self._probabilities(self._last.flatten(0, 2), codes.reshape(-1, H))[0]

    def _marginals(self, states: Tensor, codes: Tensor) -> Tensor:
        """Sum over the items that agree: states [B, K, k, D] and codes [B, K, S] → log-probabilities [B, K,
        S, V].
        """
        H, V = self.candidates.sids.shape[1], self.candidates.codes
        agreeing, empty = self._probabilities(states.flatten(0, 2), codes.reshape(-1, H))
        R, offsets = len(empty), torch.arange(H, device=codes.device) * V
        mass = agreeing.probabilities.new_zeros(R * H * V)
        for rows, items, share in zip(*(part.split(PAIRS) for part in agreeing), strict=True):
            cell = self.candidates.sids[items] + offsets + (rows * (H * V))[:, None]  # [q, H], into R·H·V
            mass.index_add_(0, cell.flatten(), share[:, None].expand(-1, H).flatten())
        none = mass == 0  # most of them; on a CPU the logarithm of 0 takes five times as long as others
        logp = mass.masked_fill_(none, 1.0).log_().masked_fill_(none, -torch.inf).view(R, H, V)
        logp[empty] = 0.0
        return logp.view(*codes.shape, V)

    def _probabilities(self, states: Tensor, codes: Tensor) -> tuple[Agreeing, Tensor]:
        """Return the items that agree with the codes [R, H] of states [R, D]; and the states with none, bool
        [R].
        """
        R = len(codes)
        row, item = self.candidates.pairs(codes)  # [Q]
        share = self.logits_of(states, row, item)
        largest = share.new_full((R,), -torch.inf).scatter_reduce_(0, row, share, "amax")
        share.sub_(largest[row]).exp_()
        share /= share.new_zeros(R).index_add_(0, row, share)[row]
        return Agreeing(row, item, share), largest == -torch.inf


class FixedItems(ItemDenoiser):
    """Denoiser of distributions over items that are given.

    A function evaluation computes nothing anew: an unmasked digit leaves the items that agree, whose
    probabilities are divided by their sum.
    """

    def __init__(self, scores: ItemScores, users: int, candidates: CandidateIndex) -> None:
        """
        Args:
            scores: logits of the items, for B users.
            users: B.
            candidates: candidate index of the catalogue.
        """
        super().__init__(candidates)
        self._scores, self._users = scores, users

    @cached_property
    def _logits(self) -> Tensor:
        """Logits of all items, float32 [B, N]."""
        return self._scores.of(slice(None))

    def evaluate(self, codes: Tensor) -> Tensor:
        """Return the user's row of each beam as its state, int64 [B, K, 1, 1]."""
        rows = torch.arange(self._users, device=codes.device)
        return rows[:, None, None, None].expand(-1, codes.shape[1], 1, 1)

    def logits_of(self, states: Tensor, row: Tensor, item: Tensor) -> Tensor:
        return self._logits[states.flatten()[row], item]

    def score_items(self, codes: Tensor, sids: Tensor) -> ItemScores:
        return self._scores

    def guided(self, unconditional: FixedItems, weight: float) -> Denoiser:
        """Refuse guidance: what is given has no state to extrapolate.

        Raises:
            NotImplementedError: in any case.
        """
        raise NotImplementedError("given distributions have no guidance")
