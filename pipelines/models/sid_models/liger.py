"""LIGER: TIGER and dense retrieval in one model (Yang et al. 2024, arXiv 2411.18814).

Each digit of a history also brings the text of its item. The state that predicts a next item's first digit
also predicts its text
embedding: the cross-entropy over the cosines with all items' texts, divided by a temperature, is added to
that of the digits. Unified retrieval ranks by these cosines the items found by beam search and the items
without a training interaction, which beam search hardly finds.

Differences from the paper: as `tiger`. Open in the paper and our choice: the temperature is learned, and the
text embedding comes from the decoder's first state."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.data.catalogue import Catalogue
from pipelines.models.base import ignore_buffers
from pipelines.models.denoiser import DenseRetriever
from pipelines.models.nn.packing import Layout
from pipelines.models.objectives.losses import softmax_loss
from pipelines.models.objectives.sampling import sampled_loss
from pipelines.models.objectives.soft_targets import SoftTargets
from pipelines.models.sid.text_heads import CosineHead
from pipelines.models.sid_models.config import LIGERConfig
from pipelines.models.sid_models.tiger import TIGER


class LIGER(TIGER):
    """TIGER with texts. Shapes as in `tiger`; E width of text embeddings."""

    config: LIGERConfig
    retrievals = ("unified", "generative", "dense")
    ranks_cold_items = True

    def __init__(self, config: LIGERConfig, catalogue: Catalogue) -> None:
        super().__init__(config, catalogue)
        self.dense = CosineHead(config, self.digits, catalogue.require_text())
        ignore_buffers(self)

    @property
    def dense_retriever(self) -> DenseRetriever | None:
        return self

    @property
    def text(self) -> Tensor:
        """Text embeddings of the catalogue, float32 [N, E]."""
        return self.dense.text

    def forward(
        self,
        items: np.ndarray,
        weights: np.ndarray,
        users: np.ndarray | None = None,
        *,
        soft: SoftTargets | None = None,
    ) -> Tensor:
        """Compute TIGER's loss plus the cross-entropy of the targets' texts; an item weighs what its digits
        weigh together.
        """
        states, targets, digit_weights = self.teacher_forced(items, weights, users)
        query, target, weight = self.dense.query(states[:, 0]), targets[:, 0], digit_weights[:, 0].sum(1)
        teacher = self.teacher_items(soft, targets)
        if self.config.negatives:
            dense = sampled_loss(
                *(query, lambda drawn: self.text[drawn], self.items, target, weight, self.config.negatives),
                teacher=teacher,
            )
        else:
            dense = softmax_loss(query, self.text, target, weight, teacher=teacher)
        return self._digit_loss(states, targets, digit_weights, teacher) + dense

    def _embed(self, tokens: Tensor, history: Tensor, layout: Layout) -> Tensor:
        return super()._embed(tokens, history, layout) + layout.pack(
            F.pad(self.dense.inputs(history), (0, 0, 0, 1))
        )

    def dense_query(self, history: Tensor, users: Tensor | None = None) -> Tensor:
        """Predict the next item's text embedding; see `DenseRetriever`."""
        memory = self.encode(history, history >= 0, users)
        start = torch.full((len(history), 1), self.start_token, device=history.device)
        states, _ = self.decoder.decode_step(self.embedding(start), memory, memory.empty_cache(len(history)))
        return self.dense.query(states[:, 0]).float()
