"""RPG: all digits of the next item at once, however many there are (Hou et al. 2025, arXiv 2506.05781).

A token is an item: the mean of its H digit embeddings, so that long semantic IDs cost nothing in attention. A
causal transformer reads the history. From the state s after an item each digit h of the next item is
predicted independently, with a projection g_h of its own and the embeddings with which digits enter:

    p(c | s) = softmax_c(cos(g_h(s), e_hc) / τ); the loss of an item is −Σ_h log p(c_h | s): multi-token
    prediction (section 2.2.1).

The paper finds items by a walk over a graph of similar items, which looks at a part of the catalogue. Here
every item is scored by the sum of its digits' log-probabilities, which that walk approximates and which is
affordable for catalogues of this size.

Written from the abstract and from accounts of the paper, which leave these choices open: g_h(s) = s +
SiLU(W_h s), with W_h zero at first; products are cosines, without which τ would mean little.

Shapes: B users, n items of a history, H digits per item, V codes per digit, N items, D width, M packed items,
R states."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.data.catalogue import Catalogue
from pipelines.models.base import Sampling, ignore_buffers
from pipelines.models.causal import Causal
from pipelines.models.denoiser import ItemScores, digit_sums
from pipelines.models.nn.precision import in_float32
from pipelines.models.nn.transformer import Encoder
from pipelines.models.objectives.losses import code_loss
from pipelines.models.objectives.soft_targets import SoftTargets
from pipelines.models.sid.embedding import SidEmbedding
from pipelines.models.sid_models.config import RPGConfig


class RPG(Causal):
    """Scores of items are sums of the log-probabilities of their digits."""

    config: RPGConfig

    def __init__(self, config: RPGConfig, catalogue: Catalogue) -> None:
        super().__init__()
        self.config, self.items, self.codes = config, catalogue.items, catalogue.codes
        sids = catalogue.require_sids()
        self.digits = sids.shape[1]
        self.embedding = SidEmbedding(sids, self.codes, config.width)
        self.embedding.initialize()
        self.encoder = Encoder(config)
        self.projection = nn.Parameter(torch.zeros(self.digits, config.width, config.width))  # W
        ignore_buffers(self)

    def forward(self, items: np.ndarray, weights: np.ndarray, *, soft: SoftTargets | None = None) -> Tensor:
        """Compute the weighted sum of −Σ_h log p(c_h | s) over the items that have an item before them."""
        positions, weight, target = self.targets(weights, items.astype(np.int64))
        logits = self.logits(self.states_before(items, positions))  # [H, R, V]
        codes, shares = self.embedding.sids_of(target).T, None  # [H, R]
        if soft is not None:
            n = items.shape[1] - 1
            mixture = soft.of(positions + positions // n + 1, self.device).mixed(target)
            codes = mixture.codes(self.embedding.sids).permute(2, 0, 1)  # [H, R, J]
            shares = mixture.shares.repeat(self.digits, 1)  # [H·R, J]
        losses = code_loss(logits.flatten(0, 1), codes.flatten(0, 1), self.config.label_smoothing, shares)
        return losses.view(self.digits, -1).sum(0) @ weight

    def history_vectors(self) -> Tensor:
        return self.embedding.item_vectors()

    def embed(self, items: Tensor) -> Tensor:
        """Embed items [M]: [M, D]."""
        return self.embedding.pooled(self.embedding.item_tokens(items), "mean")

    def logits(self, states: Tensor) -> Tensor:
        """Return the logits of all digits, float32 [H, R, V], from states [R, D]."""
        predicted = F.normalize(states + F.silu(states @ self.projection), dim=2)  # [H, R, D]
        codes = F.normalize(self.embedding.weight, dim=1).unflatten(0, (self.digits, self.codes))  # [H, V, D]
        return (predicted @ codes.transpose(1, 2)).float() / self.config.temperature

    def scores(self, history: Tensor, users: Tensor, sampling: Sampling = Sampling()) -> Tensor:
        """Score all items; see `ItemRanker.scores`."""
        return self.scores_of(self.last_states(history, history >= 0), history).of(slice(None))

    def scores_of(self, states: Tensor, history: Tensor) -> ItemScores:
        """Score items from the states after histories; see `Causal.scores_of`."""
        with in_float32(states.device):  # cosines over τ: in bfloat16 many items would tie
            logp = self.logits(states.float()).log_softmax(-1)  # [H, R, V]
        table = logp.transpose(1, 2).flatten(0, 1).contiguous()  # [H·V, R]
        return ItemScores(lambda items: digit_sums(table, self.embedding.sids[items]).T, are_logits=False)
