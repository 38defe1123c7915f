"""The state of a beam search, and the digits that one function evaluation unmasks.

Shapes: B users, K beams, S digits in all, R digits that one function evaluation unmasks, V codes per digit, Q
pairs of a user and one of the user's beams."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

CELLS = 1 << 24  # largest number of values held at once where many candidates are compared


@dataclass(frozen=True)
class BeamState:
    """The beams of B users, in the middle of a search; or Q beams of all users in one list.

    Attributes:
        codes: int64 [B, K, S] or [Q, S], V where masked.
        token_log_probs: log-probability of each digit when it was unmasked, 0 where masked; float32
            [B, K, S] or [Q, S].
        scores: their sum over the digits, float32 [B, K] or [Q]; −inf where there is no beam.
    """

    codes: Tensor
    token_log_probs: Tensor
    scores: Tensor

    def select(self, rows: Tensor) -> BeamState:
        """Return the beams of some users, or some of the Q beams."""
        return BeamState(self.codes[rows], self.token_log_probs[rows], self.scores[rows])

    def assign(self, users: Tensor, other: BeamState) -> None:
        """Replace the beams of some users, in place."""
        self.codes[users] = other.codes
        self.token_log_probs[users] = other.token_log_probs
        self.scores[users] = other.scores

    def unmask(
        self, parent: Tensor, digit: Tensor, code: Tensor, token_log_prob: Tensor, exists: Tensor
    ) -> BeamState:
        """Return the beams that unmask one more digit of their parents.

        Args:
            parent: beam that each new beam extends, int64 [B, K'].
            digit: int64 [B, K'].
            code: code of this digit, int64 [B, K'].
            token_log_prob: log-probability of this code, float32 [B, K'].
            exists: false where there is no new beam, bool [B, K'].
        """
        rows, column = parent[..., None].expand(-1, -1, self.codes.shape[2]), digit[..., None]
        scores = self.scores.gather(1, parent) + token_log_prob  # [B, K']
        return BeamState(
            self.codes.gather(1, rows).scatter(2, column, code[..., None]),
            self.token_log_probs.gather(1, rows).scatter(2, column, token_log_prob[..., None]),
            scores.masked_fill(~exists, -torch.inf),
        )


@dataclass(frozen=True)
class Unmasking:
    """The digits that one function evaluation unmasks, with the log-probabilities of their codes.

    Attributes:
        digits: in the order in which they are unmasked, int64 [B, K, R].
        logp: float32 [B, K, R, V].
    """

    digits: Tensor
    logp: Tensor

    def select(self, users: Tensor) -> Unmasking:
        """Return the digits of some users."""
        return Unmasking(self.digits[users], self.logp[users])

    @cached_property
    def remaining_bound(self) -> Tensor:
        """Upper bound of what the digits after each digit add to a score, for any catalogue: float32
        [B, K, R].
        """
        best = self.logp.amax(-1)
        return best.flip(-1).cumsum(-1).flip(-1) - best

    def codes_above(self, step: int, user: Tensor, beam: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
        """Return every code of a digit whose log-probability reaches a threshold.

        Args:
            step: position of the digit among the R digits.
            user: int64 [Q].
            beam: int64 [Q].
            threshold: smallest log-probability, float32 [Q].

        Returns:
            int64 [codes], position among the Q pairs; int64 [codes], the code.
        """
        found: list[tuple[Tensor, Tensor]] = []
        size = max(1, CELLS // self.logp.shape[3])
        for start in range(0, len(user), size):
            part = slice(start, start + size)
            logp = self.logp[user[part], beam[part], step]  # [q, V]
            rows, codes = (logp >= threshold[part, None]).nonzero(as_tuple=True)
            found.append((rows + start, codes))
        return torch.cat([rows for rows, _ in found]), torch.cat([codes for _, codes in found])
