"""MaskGR: a bidirectional transformer that fills in masked digits of semantic IDs (arXiv 2511.23021).

Vocabulary: H·V digit codes (code c of digit h is number h·V + c), then a MASK for each digit, then PAD. Digit h can only take
digit h's codes: its logits are V wide and come from a head of its own.

A token is a digit, as in the paper, or an item: the sum of its digits' embeddings, whose state serves all its digits. Masked
digits are independent given what is visible, as in the paper, or joint (see `uses_item_softmax`). These two are variants of ours.

With full attention (the paper's) every token sees every other, so a history's hidden states depend on what is masked
after it. With prefix attention, a variant of ours, an item sees itself and the clean items before it: training predicts
every item of a sequence from its clean past in one pass over two streams (as block diffusion does, Arriola et al.
2025), and decoding encodes a history once.

With dense retrieval (see `dense.DenseHead`) visible items also bring their texts, and the states of a fully masked item
predict its text embedding.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.data.candidates import CandidateIndex
from pipelines.data.catalogue import Catalogue
from pipelines.models.base import DigitModel
from pipelines.models.nn.packing import Layout, to_device
from pipelines.models.nn.transformer import Cache, Encoder
from pipelines.models.objectives.masking import (
    cut_to_next_item,
    drop_histories,
    sample_item_masks,
    sample_masks,
)
from pipelines.models.objectives.repeat_bias import Held, held_by, items_before
from pipelines.models.sid.digit_heads import DigitHeads
from pipelines.models.sid.embedding import digit_centroids
from pipelines.models.sid.item_softmax import (
    Denoiser,
    ItemSoftmax,
    item_softmax_loss,
    sampled_item_softmax_loss,
)
from pipelines.models.sid.text_heads import DenseHead, dense_weights
from pipelines.models.sid_models.config import MaskGRConfig

WHOLE_ITEM = 0.2  # β with dense retrieval (section 4.6)


class MaskGR(DigitModel):
    """Masked diffusion over the digits of a history.

    Histories are [B, n] item numbers, padded on the left with −1; they become L = n·P tokens, P = H or 1.
    """

    decoding_options = DigitModel.decoding_options | {"guidance", "approximate"}

    def __init__(self, config: MaskGRConfig, catalogue: Catalogue) -> None:
        super().__init__()
        sids, codes = catalogue.sids, catalogue.codes
        self.items = catalogue.items
        self._vectors: Tensor | None = None  # `vectors()`, while the weights stay as they are
        self.config, self.codes, self.digits = config, codes, sids.shape[1]
        self.tokens_per_item = 1 if config.tokens == "item" else self.digits  # P
        digits = torch.arange(self.digits)
        self.register_buffer(
            "masks", self.digits * codes + digits, persistent=False
        )  # [H], a MASK for each digit
        self.pad = self.digits * (codes + 1)
        pad = torch.full((1, self.digits), self.pad)
        numbers = torch.cat(
            (torch.as_tensor(sids, dtype=torch.int64) + digits * codes, pad)
        )  # item −1 is the last row: PAD
        self.register_buffer("item_digits", numbers, persistent=False)  # [N + 1, H]
        self.embedding = nn.Embedding(self.digits * (codes + 1) + 1, config.width)
        self.encoder = Encoder(config)
        self.prefix, self.uses_item_softmax = config.attention == "prefix", config.likelihood == "item"
        nn.init.normal_(self.embedding.weight, std=config.width**-0.5)
        self.heads = (
            None
            if self.uses_item_softmax
            else DigitHeads(self.digits, config.width, codes, config.label_smoothing)
        )
        if self.prefix:  # what a masked item gets of the one before it
            self.previous = nn.Linear(config.width, config.width, bias=False)
            nn.init.eye_(self.previous.weight)
        self.item_embedding = None
        if config.item_embeddings:  # the last row, that of no item, stays zero
            self.item_embedding = nn.Embedding(len(sids) + 1, config.width, padding_idx=len(sids))
            nn.init.normal_(self.item_embedding.weight[:-1], std=0.02)
        self.repeat_bias = nn.Parameter(torch.zeros(1)) if config.repeat_bias else None
        self.dense = DenseHead(config, self.tokens_per_item, catalogue.text) if config.dense else None
        self._ddp_params_and_buffers_to_ignore = [
            name for name, _ in self.named_buffers()
        ]  # the same data in all processes

    def start(self, catalogue: Catalogue) -> None:
        """With `--centroids`, put digit embeddings where their codes lie among the texts."""
        if self.config.centroids:
            found = digit_centroids(
                catalogue.sids, self.codes, catalogue.text, self.config.width
            )  # [H − 1, V, D]
            self.embedding.weight.data[: (self.digits - 1) * self.codes] = torch.as_tensor(found).flatten(
                0, 1
            )

    @property
    def streams(self) -> int:
        """2 with prefix attention, clean and noisy."""
        return 2 if self.prefix else 1

    @property
    def retrievals(self) -> tuple[str, ...]:
        """All but a ranking, where it predicts text embeddings."""
        return ("generative", "dense", "unified") if self.dense else ("generative",)

    @property
    def encodes_once(self) -> bool:
        return self.prefix

    @property
    def validation_nfe(self) -> int | None:
        """One evaluation ranks the catalogue exactly where digits are joint."""
        return 1 if self.uses_item_softmax else None

    def make_training_batch(
        self, items: np.ndarray, rng: np.random.Generator, horizon: int = 1
    ) -> tuple[np.ndarray, ...]:
        """The items [B, n], float32 [B, n, H] weights of their digits, 0 where visible, and with dense retrieval float32 [B, n]
        weights of the fully masked items."""
        config = self.config
        items = drop_histories(items, config.history_dropout, rng)
        whole = config.whole_item if config.whole_item is not None else WHOLE_ITEM if self.dense else 0.0
        if self.prefix:
            weights = sample_item_masks(items, self.digits, rng, whole)
        else:
            items, eligible = cut_to_next_item(items, config.next_item, rng, horizon)
            weights = sample_masks(
                np.broadcast_to(eligible[:, :, None], (*items.shape, self.digits)), rng, whole
            )
        return (items, weights, dense_weights(weights)) if self.dense else (items, weights)

    def forward(self, items: np.ndarray, weights: np.ndarray, whole: np.ndarray | None = None) -> Tensor:
        """Weighted sum of the cross-entropies of the masked digits (eq. 3), or of their items, and with dense retrieval of texts.

        Divide by the step's summed weights. What is real and what is masked is worked out on the host, where the arrays
        are, so that nothing here waits for a GPU.

        Args:
            items: [B, n], −1 at padding.
            weights: [B, n, H] as `make_training_batch` made them; the digits with a weight are masked.
            whole: [B, n] as `make_training_batch` made them, with dense retrieval.
        """
        (B, n, H), P, device = weights.shape, self.tokens_per_item, self.masks.device
        counted = torch.as_tensor(weights).flatten(0, 1)  # [B·n, H]
        sequences = torch.as_tensor(items)
        masked, real = counted > 0, self._real(sequences)
        asked = (
            masked.view(B * n * P, H // P).any(1).nonzero().squeeze(1)
        )  # [M] into B·n·P, tokens with a mask
        items, hide = to_device(sequences, device).long(), to_device(masked.view(B, n, H), device)
        truth = self.item_digits[items]  # [B, n, H]
        digits, shown = torch.where(hide, self.masks, truth), items.masked_fill(hide.any(2), -1)
        if self.prefix:
            layout, digits = Layout.two_streams(real, P, device), torch.cat((truth, digits), dim=1)
            shown = torch.cat((items, torch.full_like(items, -1)), dim=1)
        else:
            layout = Layout.of(real, device)

        def index(
            token: Tensor,
        ) -> Tensor:  # into B·n·P → into T; with prefix attention they are in the second stream
            return layout.index(
                to_device(token + (token // (n * P) + 1) * n * P if self.prefix else token, device)
            )

        x, begun, loss = self._enter(digits, shown, layout), 0, 0.0
        if self.prefix:
            x = x + self._of_previous(x, layout)
        if self.dense:
            shares = torch.as_tensor(whole).flatten()  # [B·n]
            chosen = shares.nonzero().squeeze(1)  # [W] into B·n
            x, begun = self.encoder.run_layers(x, layout, self.config.dense_depth), self.config.dense_depth
            states = x.index_select(0, index(self._tokens_of(chosen)))  # [W·P, D]
            loss = self.dense(states, items.flatten()[to_device(chosen, device)]) @ to_device(
                shares[chosen], device
            )
        hidden = self.encoder(x, layout, index(asked), begun)  # [M, D]
        if self.uses_item_softmax:  # a token is an item, that weighs what its digits do
            answers, shares = (
                items.flatten()[to_device(asked, device)],
                to_device(counted[asked].sum(1), device),
            )
            targets, smoothing = (answers, masked[asked], shares), self.config.label_smoothing
            if self.config.negatives:
                return loss + sampled_item_softmax_loss(
                    hidden, self.vectors, self._members, *targets, self.config.negatives, smoothing
                )
            held = None
            if self.repeat_bias is not None:
                held = Held(
                    to_device(items_before(sequences, asked // n, asked % n), device), self.repeat_bias
                )
            return loss + item_softmax_loss(
                hidden, self.vectors(), self.item_digits[:-1], *targets, smoothing, held
            )
        digit, item = masked.T.nonzero(as_tuple=True)  # [Q] each, grouped by digit
        states = hidden.index_select(
            0, to_device(torch.searchsorted(asked, item * P + digit // (H // P)), device)
        )
        codes = truth.flatten()[to_device(item * H + digit, device)] % self.codes
        return loss + self.heads.loss(
            states, codes, to_device(counted[item, digit], device), masked.sum(0).tolist()
        )

    def _of_previous(self, x: Tensor, layout: Layout) -> Tensor:
        """What the tokens of two streams [T, D] get of the item before their own: nothing in the first stream, `previous` in the second."""
        clean = (
            layout.pad(self.previous(x)).unflatten(1, (2, -1, self.tokens_per_item))[:, 0].sum(2)
        )  # [B, n, D]
        got = F.pad(clean[:, :-1], (0, 0, 1, 0)).repeat_interleave(self.tokens_per_item, dim=1)  # [B, n·P, D]
        return layout.pack(torch.cat((torch.zeros_like(got), got), dim=1))

    def hidden(self, digits: Tensor, shown: Tensor, keep: int) -> Tensor:
        """Hidden states [B, keep·P, D] of the last `keep` items of rows of items, given as digits [B, n, H]; full attention.

        Args:
            shown: [B, n], the items that bring all they have, −1 for the others.
        """
        B, n, P = *shown.shape, self.tokens_per_item
        layout = Layout.of((digits[:, :, 0] != self.pad).repeat_interleave(P, dim=1))
        last = (
            torch.arange(B, device=shown.device)[:, None] * n + torch.arange(n - keep, n, device=shown.device)
        ).flatten()
        return self.encoder(
            self._enter(digits, shown, layout), layout, layout.index(self._tokens_of(last))
        ).view(B, keep * P, -1)

    def dense_query(self, history: Tensor) -> Tensor:
        """The next item's text embedding as the model expects it, to be multiplied with those of all items (`dense.text`).

        One pass through the first η layers, the next item's H digits masked; the same for every attention.

        Args:
            history: [B, n] items, −1 at padding.

        Returns:
            float32 [B, E].
        """
        (B, n), P = history.shape, self.tokens_per_item
        items = F.pad(history, (0, 1), value=-1)
        digits = torch.cat((self.item_digits[history], self.masks.expand(B, 1, -1)), dim=1)  # [B, n + 1, H]
        real = F.pad(self._real(history), (0, P), value=True)
        layout = self._layout(real)
        last = torch.arange(n, B * (n + 1), n + 1, device=history.device)  # the masked items, into B·(n + 1)
        x = layout.pad(self._enter(digits, items, layout))  # [B, (n + 1)·P, D]
        x[:, -P:] += self._for_next(x[:, -2 * P : -P])
        x = self.encoder.run_layers(layout.pack(x), layout, self.config.dense_depth)
        return self.dense.query(x.index_select(0, layout.index(self._tokens_of(last)))).float()

    def denoiser(self, history: Tensor, approximate: bool = False) -> Denoiser:
        """What the decoder asks: codes [B, K, S] → log-probabilities [B, K, S, V], given the histories [B, n] (−1 at padding).

        Args:
            approximate: with full attention, encode the history once, as if it did not see the masks. Faster, and not
                what the model was trained for; with prefix attention this is exact and always done.
        """
        if self.prefix or approximate:
            return self.expecting(partial(self.states_after, self.prefill(history)), history)
        return self.expecting(partial(self.states, history), history)

    def expecting(self, states: Callable[[Tensor], Tensor], history: Tensor) -> Denoiser:
        """States [B, K, k·P, D] as a function of codes [B, K, S] → log-probabilities [B, K, S, V] as a function of them.

        They are those of what comes after the histories [B, n] (−1 at padding), which the states know of already.
        Codes are V where still masked; S is H digits for each item that comes next. At revealed digits the
        log-probabilities, float32, mean nothing.
        """
        if self.uses_item_softmax:
            if self._vectors is None:
                self._vectors = self.vectors().float()
            return ItemSoftmax(states, self._vectors, self._members, held_by(history, self.repeat_bias))
        return lambda codes: self._expect(states(codes))

    def states(self, history: Tensor, codes: Tensor) -> Tensor:
        """The states [B, K, k·P, D] of what comes after the histories [B, n], of which codes [B, K, S] are revealed. Full attention."""
        B, K, S = codes.shape
        k = S // self.digits
        past = self.item_digits[history][:, None].expand(B, K, -1, -1)  # [B, K, n, H]
        digits = torch.cat((past, self._digits(codes)), dim=2).flatten(0, 1)  # [B·K, n + k, H]
        shown = F.pad(history, (0, k), value=-1).repeat_interleave(K, dim=0)
        return self.hidden(digits, shown, k).unflatten(0, (B, K))

    def prefill(self, history: Tensor) -> Cache:
        """Encode histories [B, n] (−1 at padding) once, for `states_after`."""
        layout = self._layout(self._real(history))
        x = self._enter(self.item_digits[history], history, layout)
        last = layout.pad(x)[:, -self.tokens_per_item :]  # [B, P, D], nothing of nobody's
        return self.encoder.prefill(x, layout, self._for_next(last))

    def extend(self, cache: Cache, items: Tensor) -> Cache:
        """The cache of histories that one more item [B] each has joined; exact with prefix attention."""
        layout = Layout.whole(len(items), self.tokens_per_item, items.device)
        x = layout.pad(self._enter(self.item_digits[items][:, None], items[:, None], layout))  # [B, P, D]
        return cache.extended(self.encoder.step(x[:, None], cache)[1], self._for_next(x))

    def states_after(self, cache: Cache, codes: Tensor) -> Tensor:
        """As `states`, at a cost of k·P tokens a beam whatever the length of the history."""
        return self.encoder.step(
            self._embed(self._tokens(self._digits(codes)).flatten(2, 3)) + cache.last[:, None], cache
        )[0]

    def _for_next(self, last: Tensor) -> Tensor:
        """What the tokens after an item whose tokens enter as `last` [B, P, D] get of it, [B, 1, D]; 0 with full attention."""
        last = last.sum(1, keepdim=True)
        return self.previous(last) if self.prefix else torch.zeros_like(last)

    def vectors(self, items: Tensor | None = None) -> Tensor:
        """What energies are products with, for joint digits: items [Q] as they enter the model, [Q, D]; None: all N."""
        if items is None:
            items = torch.arange(len(self.item_digits) - 1, device=self.item_digits.device)
        return self._enter(
            self.item_digits[items][:, None], items[:, None], Layout.whole(len(items), 1, items.device)
        )

    def train(self, mode: bool = True) -> MaskGR:
        """Forgets what was computed from the weights."""
        self._vectors = None
        return super().train(mode)

    @cached_property
    def _members(self) -> CandidateIndex:
        return CandidateIndex(self.item_digits[:-1] % self.codes, self.codes)

    def _real(self, items: Tensor) -> Tensor:
        """Which tokens of items [B, n] are real, [B, n·P]."""
        return (items >= 0).repeat_interleave(self.tokens_per_item, dim=1)

    def _layout(self, real: Tensor) -> Layout:
        return Layout.causal(real, self.tokens_per_item) if self.prefix else Layout.of(real)

    def _tokens_of(self, items: Tensor) -> Tensor:
        """Flat indices of items, into B·n, → those of their tokens, into B·n·P."""
        P = self.tokens_per_item
        return (items[:, None] * P + torch.arange(P, device=items.device)).flatten()

    def _enter(self, digits: Tensor, shown: Tensor, layout: Layout) -> Tensor:
        """Items as digits [B, n, H] → their real tokens [T, D], those of `memory_kv` items [B, n] with all else they bring; −1: none."""
        x = self._embed(layout.pack(self._tokens(digits).flatten(1, 2)))
        if self.item_embedding is not None:
            item = layout.pack(shown)
            x = x + self.item_embedding(torch.where(item < 0, self.item_embedding.padding_idx, item))
        return x + layout.pack(self.dense.inputs(shown)) if self.dense else x

    def _tokens(self, digits: Tensor) -> Tensor:
        """Digits [..., H] → those of each token, [..., P, H/P]."""
        return digits.unflatten(-1, (self.tokens_per_item, -1))

    def _embed(self, tokens: Tensor) -> Tensor:
        """Tokens as digits [..., H/P] → [..., D], the sum of their digits' embeddings."""
        if tokens.shape[-1] == 1:
            return self.embedding(tokens.squeeze(-1))
        return F.embedding_bag(tokens.flatten(0, -2), self.embedding.weight, mode="sum").view(
            *tokens.shape[:-1], self.config.width
        )

    def _digits(self, codes: Tensor) -> Tensor:
        """Codes [B, K, S], V where masked, → digits [B, K, k, H]."""
        codes = codes.unflatten(2, (-1, self.digits))
        return torch.where(
            codes == self.codes,
            self.masks,
            codes + torch.arange(self.digits, device=codes.device) * self.codes,
        )

    def _expect(self, hidden: Tensor) -> Tensor:
        """Hidden states [B, K, k·P, D] → log-probabilities [B, K, S, V]."""
        return self.heads(hidden.unflatten(2, (-1, self.tokens_per_item)).flatten(0, 2)).view(
            *hidden.shape[:2], -1, self.codes
        )
