"""Models of a few numbers that depend on every revealed digit, and catalogues to decode."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


class TableModel:
    """Log-probabilities from random tables: what is revealed adds up, bends, and gives the logits of all digits."""

    def __init__(self, users: int, digits: int, codes: int, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.users, self.digits, self.codes, self.evaluations = users, digits, codes, 0
        self.tables = torch.randn(users, digits, codes + 1, 8, generator=generator)
        self.heads = torch.randn(8, digits, codes, generator=generator) * 2

    def __call__(self, codes: Tensor) -> Tensor:
        """codes [B, K, H] → float32 [B, K, H, V]."""
        self.evaluations += 1
        user = torch.arange(self.users)[:, None, None]
        seen = self.tables[user, torch.arange(self.digits), codes].sum(2).tanh()  # [B, K, 8]
        return torch.einsum("bkd,dhv->bkhv", seen, self.heads).log_softmax(-1)


def catalogue(items: int, digits: int, codes: int, seed: int = 0) -> np.ndarray:
    """Distinct random SIDs [N, H]."""
    rng = np.random.default_rng(seed)
    sids = np.unique(rng.integers(0, codes, (4 * items + 20, digits)), axis=0)
    return rng.permutation(sids)[:items]
