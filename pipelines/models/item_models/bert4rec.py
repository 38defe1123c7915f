"""BERT4Rec: a bidirectional transformer over item ids (Sun et al. 2019, arXiv 1904.06690).

Training masks a fixed share of the items.
"""

from __future__ import annotations

import numpy as np

from pipelines.models.item_models.cloze import Cloze
from pipelines.models.item_models.config import BERT4RecConfig
from pipelines.models.objectives.masking import choose_items


class BERT4Rec(Cloze):
    """BERT4Rec: a share ρ of the items is masked, at least one per sequence, each with a loss weight of 1."""

    config: BERT4RecConfig

    def mask(self, eligible: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw the masks of a training step; see `Cloze.mask`."""
        return choose_items(eligible, self.config.mask_ratio, rng).astype(np.float32)
