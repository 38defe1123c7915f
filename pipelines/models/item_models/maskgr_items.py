"""MaskGR over item ids instead of semantic IDs (arXiv 2511.23021, table 2).

Every sequence draws a masking rate t ~ U(0, 1], and each masked item has a loss weight of 1/t: equation 3 of
the paper with one digit per item.
"""

from __future__ import annotations

import numpy as np

from pipelines.models.item_models.cloze import Cloze
from pipelines.models.objectives.masking import sample_masks


class MaskGRItems(Cloze):
    """MaskGR over item ids: every sequence has its own masking rate."""

    def mask(self, eligible: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw the masks of a training step; see `Cloze.mask`.

        The only eligible item of a sequence is always masked, with a loss weight of 1: masked at rate t with
        a loss weight of 1/t, it would have an expected loss weight of 1.
        """
        _, weights = sample_masks(eligible[:, :, None], rng)
        alone = eligible.sum(1, keepdims=True) == 1  # [B, 1]
        return np.where(alone, eligible, weights[:, :, 0]).astype(np.float32)
