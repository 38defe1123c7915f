"""MaskGR: a transformer that fills in masked digits of semantic IDs (arXiv 2511.23021).

A token is a digit, as in the paper, or an item: the sum of its digits' embeddings, whose one state serves all
its digits (`--tokens`). Masked digits are independent given what is visible, as in the paper
(`digit_heads.PerDigitObjective`), or have one distribution over items (`item_softmax.ItemSoftmaxObjective`;
`--likelihood`). Attention is full, as in the paper, or sees only the past (`maskgr_attention`;
`--attention`). Item tokens, the item softmax and prefix attention are variants of ours.

Digit h only takes codes of digit h: its logits are V wide and come from a head of its own.

With dense retrieval (`text_heads.DenseHead`) visible items also bring their texts, and the states of a fully
masked item predict its text embedding (section 3.3)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.data.catalogue import Catalogue
from pipelines.data.windows import complete_bytes
from pipelines.models import time_prototype
from pipelines.models.base import DigitModel, ignore_buffers
from pipelines.models.denoiser import Denoiser, DenseRetriever
from pipelines.models.nn.packing import Layout, to_device
from pipelines.models.nn.transformer import Cache, Encoder
from pipelines.models.objectives.losses import softmax_loss
from pipelines.models.objectives.masking import drop_histories
from pipelines.models.objectives.repeat_bias import items_before
from pipelines.models.objectives.soft_targets import SoftTargets
from pipelines.models.sid.digit_heads import DigitHeads, PerDigitObjective
from pipelines.models.sid.embedding import SidEmbedding, digit_centroids
from pipelines.models.sid.item_softmax import ItemSoftmaxObjective
from pipelines.models.sid.masked_batch import MaskedBatch, Objective
from pipelines.models.sid.new_items import NewItems
from pipelines.models.sid.output_vectors import TABLE, OutputVectors
from pipelines.models.sid.text_heads import DenseHead, LearnedHead, dense_weights
from pipelines.models.sid_models.config import MaskGRConfig
from pipelines.models.sid_models.maskgr_attention import FullAttention, PrefixAttention

WHOLE_ITEM = 0.2  # β with dense retrieval (section 4.6)


class MaskGR(DigitModel):
    """Masked diffusion over the digits of a history.

    Histories are [B, n] item numbers, padded on the left with −1. They become L = n·P tokens, P = H or 1.
    """

    config: MaskGRConfig

    def __init__(self, config: MaskGRConfig, catalogue: Catalogue) -> None:
        super().__init__()
        sids, codes = catalogue.require_sids(), catalogue.codes
        self.config, self.items = config, catalogue.items
        self.codes, self.digits = codes, sids.shape[1]
        self.tokens_per_item = 1 if config.tokens == "item" else self.digits  # P
        self.uses_item_softmax = config.likelihood == "item"
        self.embedding = SidEmbedding(sids, codes, config.width, masks=True, specials=1)
        self.pad = self.embedding.first_special  # the token of padding
        self.encoder = Encoder(config)
        self.embedding.initialize()
        self.repeat_bias = nn.Parameter(torch.zeros(1)) if config.repeat_bias else None
        self.new_items: NewItems | None = None
        self.objective = self._objective(config)
        prefix = config.attention == "prefix"
        self.attention = PrefixAttention(config.width) if prefix else FullAttention()
        self.streams, self.encodes_once = self.attention.streams, self.attention.caches_history
        self.decoding_options = self._decoding_options()
        self.item_embedding: nn.Embedding | None = None
        if config.item_embeddings:  # the last row, of no item, stays zero
            self.item_embedding = nn.Embedding(
                len(sids) + 1, config.width, padding_idx=len(sids), sparse=bool(config.negatives)
            )
            nn.init.normal_(self.item_embedding.weight[:-1], std=0.02)
        self.dense: DenseHead | LearnedHead | None = None
        if config.dense:
            head = LearnedHead if config.dense_vectors == "learned" else DenseHead
            self.dense = head(config, self.tokens_per_item, catalogue.require_text())
            self.retrievals = ("generative", "dense", "unified")
        self.times = time_prototype.Times(config.width) if time_prototype.VARIANT else None
        ignore_buffers(self)

    def _decoding_options(self) -> frozenset[str]:
        added = {"guidance"} if self.encodes_once else {"guidance", "approximate"}
        added |= {"dense_weight"} if self.config.dense else set()
        removed = {"constrained", "nearest"} if self.uses_item_softmax else set()
        return DigitModel.decoding_options - removed | added

    def _objective(self, config: MaskGRConfig) -> Objective:
        if self.uses_item_softmax:
            return ItemSoftmaxObjective(self, config.negatives, config.label_smoothing)
        self.heads = DigitHeads(self.digits, config.width, self.codes, config.label_smoothing)
        return PerDigitObjective(self.heads, self.embedding)

    def start(self, catalogue: Catalogue) -> None:
        """With `--centroids`, start the digit embeddings from the texts of items with their codes."""
        if self.config.centroids:
            text = catalogue.require_text()
            sids = catalogue.require_sids()
            centroids = digit_centroids(sids, self.codes, text, self.config.width)  # [H − 1, V, D]
            rows = (self.digits - 1) * self.codes
            self.embedding.weight.data[:rows] = torch.as_tensor(centroids).flatten(0, 1)

    @torch.no_grad()
    def start_items(self, items: Tensor) -> None:
        """Start items from their codes: their item embeddings are zero."""
        if self.item_embedding is not None:
            self.item_embedding.weight[items] = 0.0

    def rank_new_items(self, items: Tensor, text: np.ndarray | None) -> None:
        """With item embeddings, score new items by their digits and by the trained items with similar texts;
        see `new_items`.
        """
        if self.uses_item_softmax and self.item_embedding is not None:
            device = self.embedding.weight.device
            self.new_items = NewItems(items, self.items, text).to(device)

    @property
    def candidate_bytes(self) -> int:
        sampled = self.uses_item_softmax and self.config.negatives
        return complete_bytes(self.items, self.digits, self.codes) if sampled else 0

    @property
    def dense_retriever(self) -> DenseRetriever | None:
        return self if self.dense else None

    @property
    def text(self) -> Tensor:
        """Vectors of dense retrieval: text embeddings, float32 [N, E], or learned ones, [N, D]."""
        assert self.dense, "the model has no dense retrieval"
        return self.dense.vectors

    def make_training_batch(
        self, items: np.ndarray, rng: np.random.Generator, horizon: int = 1
    ) -> tuple[np.ndarray, ...]:
        """Draw the masks of an optimizer step; see `Recommender.make_training_batch`.

        Returns:
            The items [B, n]; loss weights of their digits, float32 [B, n, H], 0 where a digit is visible; and
            with dense retrieval loss weights of the fully masked items, float32 [B, n].
        """
        items = drop_histories(items, self.config.history_dropout, rng)
        share = self.config.whole_item
        if share is None:
            share = WHOLE_ITEM if self.dense else 0.0
        items, weights = self.attention.sample(items, self.digits, rng, self.config, share, horizon)
        return (items, weights, dense_weights(weights)) if self.dense else (items, weights)

    def forward(
        self,
        items: np.ndarray,
        weights: np.ndarray,
        dense: np.ndarray | None = None,
        *,
        soft: SoftTargets | None = None,
    ) -> Tensor:
        """Compute the weighted sum of the losses of the masked digits (equation 3), and of the texts with
        dense retrieval.

        Divide it by the sum of the weights of the whole step.

        Args:
            items: int [B, n], −1 at padding.
            weights: float32 [B, n, H], as `make_training_batch` returns them.
            dense: float32 [B, n], as `make_training_batch` returns them with dense retrieval.
            soft: soft targets of the items; None for none. Teachers see no later item, so an item that sees
                one keeps its true target.

        Returns:
            A float32 scalar.
        """
        device = self.embedding.weight.device
        if soft is not None:
            soft = soft.at(np.where(self.attention.sees_later(items, weights), -1, soft.places))
        batch = MaskedBatch.of(items, weights, self.tokens_per_item, device, soft)
        times, dense = (dense, None) if self.times is not None else (None, dense)
        x, layout, index = self._noisy(batch, times)
        layers, loss = 0, torch.zeros((), device=device)
        if self.dense:
            assert dense is not None, "dense retrieval needs the loss weights of fully masked items"
            x, layers = self.encoder.run_layers(x, layout, self.config.dense_depth), self.config.dense_depth
            shares = torch.as_tensor(dense).flatten()  # [B·n]
            rows = shares.nonzero().squeeze(1)  # into B·n
            states = x.index_select(0, index(self._tokens_of(rows)))  # [rows·P, D]
            truth = batch.items_on_device.flatten()[to_device(rows, device)]
            loss = self.config.dense_loss * softmax_loss(
                self.dense.query(states), self.dense.vectors, truth, to_device(shares[rows], device)
            )
        hidden = self.encoder(x, layout, index(batch.tokens), layers)
        return loss + self.objective.loss(hidden, batch)

    def _noisy(self, batch: MaskedBatch, times: np.ndarray | None = None) -> tuple[Tensor, Layout, Callable[[Tensor], Tensor]]:
        """Embed a batch with masked digits.

        Returns:
            Packed tokens of all streams [M, D]; their layout; and a function from flat indices of predicted
            tokens, into B·n·P on the host, to their indices among the packed tokens.
        """
        (B, n), P, device = batch.items.shape, self.tokens_per_item, batch.device
        masked = to_device(batch.masked.view(B, n, -1), device)
        clean = self._item_tokens(batch.items_on_device)  # [B, n, H]
        noisy = torch.where(masked, self.embedding.mask_tokens, clean)
        visible = batch.items_on_device.masked_fill(masked.any(2), -1)  # [B, n]
        tokens, visible = self.attention.streams_of(clean, noisy, batch.items_on_device, visible)
        layout = self.attention.training_layout(self._real(batch.items), P, device)

        def index(predicted: Tensor) -> Tensor:
            return layout.index(to_device(self.attention.training_index(predicted, n * P), device))

        x = self._embed(tokens, visible, layout)
        if self.times is not None and times is not None:
            features = torch.as_tensor(times)
            both = (self.times.of_history(features), self.times.of_request(features))
            x = x + layout.pack(torch.cat(both, dim=1))
        return self.attention.add_previous(x, layout, P), layout, index

    def hidden(self, tokens: Tensor, visible: Tensor, keep: int) -> Tensor:
        """Encode rows of items with full attention.

        Args:
            tokens: of the items' digits, int64 [B, n, H].
            visible: items that bring all their embeddings, int64 [B, n], −1 for the others.
            keep: number of items at the end whose states are returned.

        Returns:
            [B, keep·P, D].
        """
        (B, n), P, device = visible.shape, self.tokens_per_item, visible.device
        layout = Layout.bidirectional((tokens[:, :, 0] != self.pad).repeat_interleave(P, dim=1))
        last = (
            torch.arange(B, device=device)[:, None] * n + torch.arange(n - keep, n, device=device)
        ).flatten()
        x = self._embed(tokens, visible, layout)
        states: Tensor = self.encoder(x, layout, layout.index(self._tokens_of(last)))
        return states.view(B, keep * P, -1)

    def dense_query(self, history: Tensor, users: Tensor | None = None) -> Tensor:
        """Predict the next item's text embedding, with one pass through the first η layers; see
        `DenseRetriever`.
        """
        assert self.dense, "the model has no dense retrieval"
        (B, n), P = history.shape, self.tokens_per_item
        items = F.pad(history, (0, 1), value=-1)
        masks = self.embedding.mask_tokens.expand(B, 1, -1)
        tokens = torch.cat((self._item_tokens(history), masks), dim=1)  # [B, n + 1, H]
        real = F.pad(self._real(history), (0, P), value=True)
        layout = self.attention.history_layout(real, P)
        last = torch.arange(n, B * (n + 1), n + 1, device=history.device)  # the masked items, into B·(n + 1)
        x = layout.pad(self._embed(tokens, items, layout))  # [B, (n + 1)·P, D]
        x[:, -P:] += self.attention.contribution(x[:, -2 * P : -P])
        x = self.encoder.run_layers(layout.pack(x), layout, self.config.dense_depth)
        return self.dense.query(x.index_select(0, layout.index(self._tokens_of(last)))).float()

    def denoiser(
        self, history: Tensor, users: Tensor | None = None, *, approximate: bool = False
    ) -> Denoiser:
        """Return the denoiser; see `DigitModel.denoiser`.

        Args:
            history: int64 [B, n], −1 at padding.
            users: of no importance to this model.
            approximate: with full attention, encode the history once, as if it did not see the masks: faster,
                and not what the model was trained for. Prefix attention always does so, exactly.
        """
        if self.encodes_once or approximate:
            return self.objective.denoiser(partial(self.states_after, self.prefill(history, users)), history)
        return self.objective.denoiser(partial(self.states, history), history)

    def denoiser_within(self, sequences: Tensor) -> Denoiser | None:
        """Condition the model on the items before each item of sequences; see `DigitModel.denoiser_within`.

        Prefix attention sees them all in the pass of training; with full attention, a history's states depend
        on the masks after it.
        """
        if not self.encodes_once:
            return None
        P, device = self.tokens_per_item, self.embedding.weight.device
        follows = F.pad(sequences[:, :-1] >= 0, (1, 0))  # [B, n]
        weights = follows[:, :, None].expand(-1, -1, self.digits).float()
        batch = MaskedBatch.of(sequences.numpy(), weights.numpy(), P, device)
        x, layout, index = self._noisy(batch)
        hidden = self.encoder(x, layout, index(batch.tokens)).view(-1, 1, P, x.shape[1])  # [R, 1, P, D]
        rows, ends = follows.nonzero(as_tuple=True)  # [R] each
        history = to_device(items_before(sequences, rows, ends), device)
        return self.objective.denoiser(lambda codes: hidden, history)

    def states(self, history: Tensor, codes: Tensor) -> Tensor:
        """Return the states of the next items with full attention.

        Args:
            history: int64 [B, n], −1 at padding.
            codes: int64 [B, K, S], V where masked.

        Returns:
            [B, K, k·P, D].
        """
        B, K, S = codes.shape
        k = S // self.digits
        past = self._item_tokens(history)[:, None].expand(B, K, -1, -1)  # [B, K, n, H]
        tokens = torch.cat((past, self._next_tokens(codes)), dim=2).flatten(0, 1)  # [B·K, n + k, H]
        visible = F.pad(history, (0, k), value=-1).repeat_interleave(K, dim=0)
        return self.hidden(tokens, visible, k).unflatten(0, (B, K))

    def prefill(self, history: Tensor, users: Tensor | None = None) -> Cache:
        """Encode histories [B, n] (−1 at padding) once, for `states_after`."""
        layout = self.attention.history_layout(self._real(history), self.tokens_per_item)
        x = self._embed(self._item_tokens(history), history, layout)
        request: Tensor | float = 0.0
        if self.times is not None and users is not None:
            past, now = time_prototype.of_requests(users, history.shape[1])
            x = x + layout.pack(self.times.of_history(past))
            request = self.times.of_request(now)[:, None]  # [B, 1, D]
        last = layout.pad(x)[:, -self.tokens_per_item :]  # [B, P, D], zero for an empty history
        return self.encoder.prefill(x, layout, self.attention.contribution(last) + request)

    def extend(self, cache: Cache, items: Tensor) -> Cache:
        """Return the cache of histories with one more item [B] each; exact with prefix attention."""
        layout = Layout.unpadded(len(items), self.tokens_per_item, items.device)
        tokens = self._item_tokens(items)[:, None]  # [B, 1, H]
        x = layout.pad(self._embed(tokens, items[:, None], layout))  # [B, P, D]
        return cache.extended(self.encoder.decode_beams(x[:, None], cache)[1], self.attention.contribution(x))

    def states_after(self, cache: Cache, codes: Tensor) -> Tensor:
        """Return `states` from a cache, at a cost of k·P tokens a beam whatever the length of the history."""
        tokens = self._by_token(self._next_tokens(codes)).flatten(2, 3)  # [B, K, k·P, H/P]
        states, _ = self.encoder.decode_beams(self.embedding.pooled(tokens) + cache.last[:, None], cache)
        return states

    def item_vectors(self, items: Tensor | None = None) -> Tensor:
        """Return the output vectors of the item softmax: items [Q] as they enter the model, [Q, D]; all N if
        None.
        """
        if items is None:
            items = torch.arange(self.items, device=self.embedding.weight.device)
        layout = Layout.unpadded(len(items), 1, items.device)
        return self._embed(self._item_tokens(items)[:, None], items[:, None], layout)

    def output_vectors(self) -> OutputVectors:
        """Return `item_vectors` of all items: a table, or for a large catalogue the digit embeddings and what
        each item adds to them.
        """
        if self.items * self.config.width <= TABLE:
            return OutputVectors(self.embedding.sids, None, self.item_vectors().float())
        own = None if self.item_embedding is None else self.item_embedding.weight[:-1]
        if self.dense:
            items = torch.arange(self.items, device=self.embedding.weight.device)
            text = self.dense.inputs(items[None])[0].float()  # [N, D]
            own = text if own is None else own + text
        return OutputVectors(self.embedding.sids, self.embedding.weight[: self.digits * self.codes], own)

    def history_vectors(self) -> Tensor:
        vectors = self.embedding.item_vectors()
        return vectors if self.item_embedding is None else vectors + self.item_embedding.weight[:-1]

    def train(self, mode: bool = True) -> MaskGR:
        """Set training mode; forget what was computed from earlier weights."""
        self.objective.weights_changed()
        return super().train(mode)

    def _real(self, items: Tensor) -> Tensor:
        """Return the padding mask of the tokens of items [B, n]: bool [B, n·P], False at padding."""
        return (items >= 0).repeat_interleave(self.tokens_per_item, dim=1)

    def _tokens_of(self, items: Tensor) -> Tensor:
        """Return the flat indices of tokens, into B·n·P, from those of their items, into B·n."""
        P = self.tokens_per_item
        return (items[:, None] * P + torch.arange(P, device=items.device)).flatten()

    def _item_tokens(self, items: Tensor) -> Tensor:
        """Return the tokens of the digits of items [...], PAD for item −1: int64 [..., H]."""
        return self.embedding.item_tokens(items, self.pad)

    def _next_tokens(self, codes: Tensor) -> Tensor:
        """Return the tokens of the next items' digits, int64 [B, K, k, H], from codes [B, K, S], V where
        masked.
        """
        return self.embedding.tokens(codes.unflatten(2, (-1, self.digits)))

    def _by_token(self, tokens: Tensor) -> Tensor:
        """Group the digits of items by the transformer's tokens: [..., H] → [..., P, H/P]."""
        return tokens.unflatten(-1, (self.tokens_per_item, -1))

    def _embed(self, tokens: Tensor, visible: Tensor, layout: Layout) -> Tensor:
        """Embed items.

        Args:
            tokens: of their digits, int64 [B, n, H].
            visible: items that bring their other embeddings too, int64 [B, n], −1 for the others.
            layout: of the tokens.

        Returns:
            Packed tokens [M, D].
        """
        x = self.embedding.pooled(layout.pack(self._by_token(tokens).flatten(1, 2)))
        if self.item_embedding is not None:
            items = layout.pack(visible)
            none = self.item_embedding.num_embeddings - 1
            x = x + self.item_embedding(torch.where(items < 0, none, items))
        return x + layout.pack(self.dense.inputs(visible)) if self.dense else x
