"""LIGER: TIGER and dense retrieval in one model (Yang et al. 2024, arXiv 2411.18814).

Beside each digit of a history stands the text of its item. The state that predicts a next item's first digit also predicts its text
embedding: cross-entropy over the cosines with all items' texts, divided by a temperature, is added to that of the digits. Unified
retrieval ranks by these cosines what beam search found and the items that nobody took in training, which beam search hardly finds.

Against the paper: as `tiger`. Ours to choose: the temperature is learnt, and the text embedding comes from the decoder's first state.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.data.catalogue import Catalogue
from pipelines.models.nn.packing import Layout
from pipelines.models.objectives.losses import sampled_loss, softmax_loss
from pipelines.models.sid.text_heads import CosineHead
from pipelines.models.sid_models.config import LIGERConfig
from pipelines.models.sid_models.tiger import TIGER


class LIGER(TIGER):
    """TIGER with texts. Shapes as there; E width of a text embedding."""

    retrievals = ("unified", "generative", "dense")
    ranks_cold_items = True

    def __init__(self, config: LIGERConfig, catalogue: Catalogue) -> None:
        super().__init__(config, catalogue)
        self.dense = CosineHead(config, self.digits, catalogue.text)
        self._ddp_params_and_buffers_to_ignore.append("dense.text")

    def forward(self, items: np.ndarray, weights: np.ndarray, users: np.ndarray | None = None) -> Tensor:
        """As TIGER's, and the cross-entropy of the targets' texts: an item counts what its digits do together."""
        states, following, weights = self._taught(items, weights, users)
        query, target, counted = self.dense.query(states[:, 0]), following[:, 0], weights[:, 0].sum(1)
        if self.config.negatives:
            dense = sampled_loss(
                query,
                lambda drawn: self.dense.text[drawn],
                self.items,
                target,
                counted,
                self.config.negatives,
            )
        else:
            dense = softmax_loss(query, self.dense.text, target, counted)
        return self._digit_loss(states, following, weights) + dense

    def _enter(self, tokens: Tensor, history: Tensor, layout: Layout) -> Tensor:
        return super()._enter(tokens, history, layout) + layout.pack(
            F.pad(self.dense.inputs(history), (0, 0, 0, 1))
        )

    def dense_query(self, history: Tensor, users: Tensor | None = None) -> Tensor:
        """The next item's text embedding as expected after histories [B, n], float32 [B, E], see `MaskGR.dense_query`."""
        memory = self.encode(history, history >= 0, users)
        start = torch.full((len(history), 1), self.end + 1, device=history.device)
        states, _ = self.decoder.step(self.embedding(start), memory, memory.nothing(len(history)))
        return self.dense.query(states[:, 0]).float()
