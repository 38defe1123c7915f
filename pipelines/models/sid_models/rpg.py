"""RPG: all digits of the next item's semantic ID at once, however many there are (Hou et al. 2025, arXiv 2506.05781).

A token is an item: the mean of its H digit embeddings, so that long semantic IDs cost nothing in attention. A causal transformer reads
the history; from the state s after an item each digit h of the next one is predicted by itself, with a projection g_h of its own and
the embeddings that digits enter with:

    p(c | s) = softmax_c(cos(g_h(s), e_hc) / τ), and the loss of an item is −Σ_h log p(c_h | s): multi-token prediction (section 2.2.1).

The paper finds items by a walk over a graph of similar ones, which looks at a part of the catalogue. Here every item is scored, by the
sum of its digits' log-probabilities: what that walk approximates, affordable for catalogues of this size.

Written from the abstract and from accounts of the paper, which leave these open: g_h(s) = s + SiLU(W_h s), with W_h zero at first;
products are cosines, without which τ means little.

Shapes: B users, n items of a history, H digits an item, V codes, N items, D width, T real items, R states.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.data.catalogue import Catalogue
from pipelines.models.causal import Causal
from pipelines.models.nn.precision import in_float32
from pipelines.models.nn.transformer import Encoder
from pipelines.models.sid.digit_heads import of_items
from pipelines.models.sid_models.config import RPGConfig


class RPG(Causal):
    """Scores of items are sums of the log-probabilities of their digits."""

    def __init__(self, config: RPGConfig, catalogue: Catalogue) -> None:
        super().__init__()
        self.config, self.items, self.codes = config, catalogue.items, catalogue.codes
        self.digits = H = catalogue.sids.shape[1]
        self.register_buffer(
            "sids", torch.as_tensor(catalogue.sids, dtype=torch.int64), persistent=False
        )  # [N, H]
        self.register_buffer(
            "offsets", torch.arange(H) * self.codes, persistent=False
        )  # code c of digit h is number h·V + c
        self.embedding = nn.Embedding(H * self.codes, config.width)
        nn.init.normal_(self.embedding.weight, std=config.width**-0.5)
        self.encoder = Encoder(config)
        self.projection = nn.Parameter(torch.zeros(H, config.width, config.width))  # W
        self._ddp_params_and_buffers_to_ignore = [
            name for name, _ in self.named_buffers()
        ]  # the same data in all processes

    def forward(self, items: np.ndarray, weights: np.ndarray) -> Tensor:
        """Weighted sum over the items that have one before them of −Σ_h log p(c_h | s); arguments as `make_training_batch` made them."""
        places, weight, target = self.asked(weights, items.astype(np.int64))
        logits = self.logits(self.before(items, places))  # [H, R, V]
        codes = self.sids[target].T  # [H, R]
        losses = F.cross_entropy(
            logits.flatten(0, 1),
            codes.flatten(),
            reduction="none",
            label_smoothing=self.config.label_smoothing,
        )
        return losses.view(codes.shape).sum(0) @ weight

    def embed(self, items: Tensor) -> Tensor:
        """Items [T] → [T, D]."""
        return F.embedding_bag(self.sids[items] + self.offsets, self.embedding.weight, mode="mean")

    def logits(self, states: Tensor) -> Tensor:
        """States [R, D] → float32 [H, R, V]."""
        expected = F.normalize(states + F.silu(states @ self.projection), dim=2)  # [H, R, D]
        codes = F.normalize(self.embedding.weight, dim=1).unflatten(0, (self.digits, self.codes))  # [H, V, D]
        return (expected @ codes.transpose(1, 2)).float() / self.config.temperature

    def scores(self, history: Tensor, users: Tensor) -> Tensor:
        states = self.last_states(history, history >= 0)
        with in_float32(history.device):  # cosines over τ: in bfloat16 many items would tie
            return of_items(self.logits(states.float()).log_softmax(-1).transpose(0, 1), self.sids)
