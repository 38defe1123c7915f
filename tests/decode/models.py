"""Small models whose log-probabilities depend on every unmasked digit, and catalogues to decode."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pipelines.models.denoiser import IndependentDigits


class TableModel(IndependentDigits):
    """A denoiser made of random tables: the vectors of the codes are summed, and a tanh and a linear map give
    the logits of all digits.

    Attributes:
        evaluations: number of function evaluations so far.
    """

    def __init__(self, users: int, digits: int, codes: int, seed: int = 0) -> None:
        super().__init__(self._table)
        generator = torch.Generator().manual_seed(seed)
        self.users, self.digits, self.codes, self.evaluations = users, digits, codes, 0
        self.tables = torch.randn(users, digits, codes + 1, 8, generator=generator)
        self.heads = torch.randn(8, digits, codes, generator=generator) * 2

    def _table(self, codes: Tensor) -> Tensor:
        """Return log-probabilities, float32 [B, K, H, V], from codes [B, K, H]."""
        self.evaluations += 1
        user = torch.arange(self.users)[:, None, None]
        states = self.tables[user, torch.arange(self.digits), codes].sum(2).tanh()  # [B, K, 8]
        return torch.einsum("bkd,dhv->bkhv", states, self.heads).log_softmax(-1)


def catalogue(items: int, digits: int, codes: int, seed: int = 0) -> np.ndarray:
    """Return distinct random SIDs [N, H], of at most `items` items."""
    rng = np.random.default_rng(seed)
    sids = np.unique(rng.integers(0, codes, (4 * items + 20, digits)), axis=0)
    return rng.permutation(sids)[:items]
