"""Bidirectional transformers that fill in masked item ids: BERT4Rec, and MaskGR over item ids.

They differ in what is masked: a fixed share ρ of the items (Sun et al. 2019, arXiv 1904.06690), or every rate t ~ U(0, 1] with each
masked item counting 1/t (the paper's equation 3 with one "digit" an item; its table 2). At inference a MASK follows the history.
Input and output share the item embeddings.
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.data.catalogue import Catalogue
from pipelines.models.base import ItemRanker, products
from pipelines.models.item_models.config import ClozeConfig
from pipelines.models.nn.packing import Layout, to_device
from pipelines.models.nn.transformer import Encoder
from pipelines.models.objectives.losses import sampled_loss, softmax_loss
from pipelines.models.objectives.masking import chosen_items, cut_to_next_item, sample_masks
from pipelines.models.objectives.repeat_bias import Held, held_by, with_repeats


class Cloze(ItemRanker):
    """Scores of items are products of their embeddings with the state of the MASK."""

    def __init__(self, config: ClozeConfig, catalogue: Catalogue) -> None:
        super().__init__()
        self.config, self.items = config, catalogue.items
        self.embedding = nn.Embedding(catalogue.items + 1, config.width)  # the last is MASK
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.encoder = Encoder(config)
        self.repeat_bias = nn.Parameter(torch.zeros(1)) if config.repeat_bias else None

    def make_training_batch(
        self, items: np.ndarray, rng: np.random.Generator, horizon: int = 1
    ) -> tuple[np.ndarray, ...]:
        """The items [B, n], and what each masked one counts, 0 where visible, [B, n]."""
        items, eligible = cut_to_next_item(items, self.config.next_item, rng)
        return items, self.mask(eligible, rng)

    @abstractmethod
    def mask(self, eligible: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """What each item counts, float32 [B, n], 0 where it stays visible; `eligible` [B, n] says which may be masked."""

    def forward(self, items: np.ndarray, weights: np.ndarray) -> Tensor:
        """Weighted sum of the cross-entropies of the masked items; arguments as `make_training_batch` made them."""
        device, config = self.embedding.weight.device, self.config
        asked = torch.as_tensor(weights).flatten().nonzero().squeeze(1)  # [R] into B·n
        truth, counted = torch.as_tensor(items), torch.as_tensor(weights)
        shown = to_device(torch.where(counted > 0, self.items, truth), device).long()
        states = self.states(shown, truth >= 0, asked)
        target, weight = (
            to_device(truth.flatten()[asked], device).long(),
            to_device(counted.flatten()[asked], device),
        )
        if config.negatives:
            return sampled_loss(
                states, self.embedding, self.items, target, weight, config.negatives, config.label_smoothing
            )
        held = None
        if self.repeat_bias is not None:  # what is visible, before and after
            visible = truth.masked_fill(counted > 0, -1)[asked // truth.shape[1]]
            held = Held(to_device(visible, device).long(), self.repeat_bias)
        return softmax_loss(states, self.embedding.weight[:-1], target, weight, config.label_smoothing, held)

    def states(self, shown: Tensor, real: Tensor, asked: Tensor) -> Tensor:
        """The states [R, D] of the items `asked` [R], into B·n, of sequences `memory_kv` [B, n], N where masked; see `SASRec.states`."""
        layout = Layout.of(real, shown.device)
        return self.encoder(
            self.embedding(layout.pack(shown)), layout, layout.index(to_device(asked, shown.device))
        )

    def scores(self, history: Tensor, users: Tensor) -> Tensor:
        B, n = len(history), history.shape[1] + 1
        last = torch.arange(n - 1, B * n, n, device=history.device)
        shown = F.pad(history, (0, 1), value=self.items)
        scores = products(self.states(shown, shown >= 0, last), self.embedding.weight[:-1])
        return with_repeats(scores, held_by(history, self.repeat_bias))


class BERT4Rec(Cloze):
    """A share ρ of the items is masked, at least one; each counts 1."""

    def mask(self, eligible: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return chosen_items(eligible, self.config.mask_ratio, rng).astype(np.float32)


class MaskGRItems(Cloze):
    """Every sequence has a masking rate t of its own."""

    def mask(self, eligible: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        weights = sample_masks(eligible[:, :, None], rng)[:, :, 0]
        alone = (
            eligible.sum(1, keepdims=True) == 1
        )  # masked at rate t and counting 1/t, it counts 1 on average: mask it always
        return np.where(alone, eligible, weights).astype(np.float32)
