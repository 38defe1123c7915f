"""Beams on the way, and the digits that an evaluation reveals of them.

Shapes: B users, K beams, S digits in all, R digits an evaluation reveals, V codes, Q pairs of a user and one of the user's beams.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

CELLS = 1 << 24  # numbers held at once where many candidates are compared


@dataclass(frozen=True)
class Partial:
    """Beams of B users."""

    codes: Tensor  # int64 [B, K, S], V where masked
    token_log_probs: (
        Tensor  # float32 [B, K, S], the log-probability at which each digit was revealed, 0 where masked
    )
    scores: Tensor  # float32 [B, K], their sum; −inf where there is no beam

    def of(self, rows: Tensor) -> Partial:
        """Those of some users."""
        return Partial(self.codes[rows], self.token_log_probs[rows], self.scores[rows])

    def put(self, rows: Tensor, other: Partial) -> None:
        """Replace those of some users."""
        self.codes[rows], self.token_log_probs[rows], self.scores[rows] = (
            other.codes,
            other.token_log_probs,
            other.scores,
        )

    def grown(
        self, parent: Tensor, digit: Tensor, code: Tensor, token_log_prob: Tensor, scores: Tensor
    ) -> Partial:
        """The beams that reveal one more `digit` of their `parent`, all [B, K]: its code, the log-probability of that, the new score."""
        rows, own = parent[..., None].expand(-1, -1, self.codes.shape[2]), digit[..., None]
        codes = self.codes.gather(1, rows).scatter(2, own, code[..., None])
        return Partial(
            codes, self.token_log_probs.gather(1, rows).scatter(2, own, token_log_prob[..., None]), scores
        )


@dataclass(frozen=True)
class Asked:
    """The digits that an evaluation reveals of the beams it begins with, and what the model says of their codes."""

    digits: Tensor  # int64 [B, K, R], in the order in which they are added
    logp: Tensor  # float32 [B, K, R, V]

    def of(self, rows: Tensor) -> Asked:
        """Those of some users."""
        return Asked(self.digits[rows], self.logp[rows])

    @cached_property
    def remaining_bound(self) -> Tensor:
        """The most that the digits after each can add, whatever the catalogue holds: float32 [B, K, R]."""
        best = self.logp.amax(-1)
        return best.flip(-1).cumsum(-1).flip(-1) - best

    def codes_above(self, step: int, user: Tensor, beam: Tensor, least: Tensor) -> tuple[Tensor, Tensor]:
        """Every code of a digit with a log-probability of at least so much.

        Args:
            step: which of the R digits.
            user, beam: [Q], of what.
            least: [Q].

        Returns:
            Which of the Q, and the code.
        """
        found = []
        size = max(1, CELLS // self.logp.shape[3])
        for start in range(0, len(user), size):
            part = slice(start, start + size)
            rows, codes = (self.logp[user[part], beam[part], step] >= least[part, None]).nonzero(
                as_tuple=True
            )
            found.append((rows + start, codes))
        rows, codes = zip(*found, strict=True)
        return torch.cat(rows), torch.cat(codes)
