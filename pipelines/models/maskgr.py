"""MaskGR: a bidirectional transformer that fills in masked digits of semantic IDs (arXiv 2511.23021).

Vocabulary: H·V digit codes (code c of digit h is number h·V + c), then a MASK for each digit, then PAD. Digit h can only take
digit h's codes: its logits are V wide and come from a head of its own.

A token is a digit, as in the paper, or an item: the sum of its digits' embeddings, whose state serves all its digits. Masked
digits are independent given what is visible, as in the paper, or joint (see `joint`). These two are variants of ours.

With full attention (the paper's) every token sees every other, so a history's hidden states depend on what is masked
after it. With prefix attention, a variant of ours, an item sees itself and the clean items before it: training predicts
every item of a sequence from its clean past in one pass over two streams (as block diffusion does, Arriola et al.
2025), and decoding encodes a history once.

With dense retrieval (see `dense.DenseHead`) visible items also bring their texts, and the states of a wholly masked item
predict its text embedding.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import os
XP = {k[3:]: float(v) for k, v in os.environ.items() if k.startswith("XP_")}
from pipelines.models.config import ModelConfig
from pipelines.models.dense import DenseHead, dense_weights
from pipelines.models.joint import Joint, LogProbabilities, Members, joint_loss
from pipelines.models.noise import Noise, cut_to_next_item, forget_history, masked_diffusion_weights, noise_by_item
from pipelines.models.transformer import Cache, Encoder, Layout

WHOLE_ITEM = 0.2  # β with dense retrieval (section 4.6)


class MaskGR(nn.Module):
    """Masked diffusion over the digits of a history.

    Histories are [B, n] item numbers, padded on the left with −1; they become L = n·P tokens, P = H or 1.
    """

    def __init__(self, config: ModelConfig, sids: np.ndarray, codes: int, text: np.ndarray | None = None) -> None:
        """
        Args:
            config: sizes.
            sids: semantic IDs [N, H], codes from 0 to V − 1.
            codes: V.
            text: text embeddings [N, E], for dense retrieval.
        """
        super().__init__()
        self._vectors: Tensor | None = None  # `vectors()`, while the weights stay as they are
        self.config, self.codes, self.digits = config, codes, sids.shape[1]
        self.tokens_per_item = 1 if config.tokens == "item" else self.digits  # P
        digits = torch.arange(self.digits)
        self.register_buffer("masks", self.digits * codes + digits, persistent=False)  # [H], a MASK for each digit
        self.pad = self.digits * (codes + 1)
        pad = torch.full((1, self.digits), self.pad)
        numbers = torch.cat((torch.as_tensor(sids, dtype=torch.int64) + digits * codes, pad))  # item −1 is the last row: PAD
        self.register_buffer("item_digits", numbers, persistent=False)  # [N + 1, H]
        self.embedding = nn.Embedding(self.digits * (codes + 1) + 1, config.width)
        self.encoder = Encoder(config)
        self.prefix, self.joint = config.attention == "prefix", config.likelihood == "item"
        nn.init.normal_(self.embedding.weight, std=config.width**-0.5)
        if not self.joint:  # joint digits take their items' own vectors
            self.head = nn.Parameter(torch.randn(self.digits, config.width, codes) * config.width**-0.5)
        self.item_embedding = None
        if config.item_embeddings:  # the last row, that of no item, stays zero
            self.item_embedding = nn.Embedding(len(sids) + 1, config.width, padding_idx=len(sids))
            nn.init.normal_(self.item_embedding.weight[:-1], std=0.02)
        if "TEXT" in XP:
            import numpy as _np
            from pipelines.models.catalogue import load_text
            from pathlib import Path
            t = torch.as_tensor(load_text(Path(os.environ["MASKGR_WORKSPACE"]) / "datasets/beauty/embeddings/lsa.parquet"))
            t = F.normalize(t)
            self.register_buffer("xtext", torch.cat((t, torch.zeros(1, t.shape[1]))), persistent=False)
            self.xin = nn.Linear(t.shape[1], config.width, bias=False)
            nn.init.normal_(self.xin.weight, std=XP["TEXT"] * config.width**-0.5)
        if "PREV" in XP:
            self.xprev = nn.Linear(config.width, config.width, bias=False)
            nn.init.eye_(self.xprev.weight)
        self.dense = DenseHead(config, self.tokens_per_item, text) if config.dense else None
        self._ddp_params_and_buffers_to_ignore = [name for name, _ in self.named_buffers()]  # the same data in all processes

    @property
    def streams(self) -> int:
        """Times that a training sequence goes through the encoder: 2 with prefix attention, clean and noisy."""
        return 2 if self.prefix else 1

    def draw(self, items: np.ndarray, rng: np.random.Generator, noise: Noise = Noise()) -> tuple[np.ndarray, ...]:
        """What one whole optimiser step trains on.

        Args:
            items: [B, n], −1 at padding.

        Returns:
            What `forward` takes: the items [B, n], float32 [B, n, H] weights of their digits, 0 where visible, and with
            dense retrieval float32 [B, n] weights of the wholly masked items.
        """
        items = forget_history(items, noise.forget, rng)
        if "HDROP" in XP:
            keep = (rng.random(items.shape) >= XP["HDROP"]) | (items < 0)
            few = ((items >= 0) & keep).sum(1) < 2
            keep[few] = True
            items = np.where(keep, items, -1)
            order = np.argsort(items >= 0, axis=1, kind="stable")
            items = np.take_along_axis(items, order, axis=1)
        whole = noise.whole_item if noise.whole_item is not None else WHOLE_ITEM if self.dense else 0.0
        if self.prefix:
            weights = noise_by_item(items, self.digits, rng, whole)
        else:
            items, eligible = cut_to_next_item(items, noise.next_item, rng, noise.ahead)
            weights = masked_diffusion_weights(np.broadcast_to(eligible[:, :, None], (*items.shape, self.digits)), rng, whole)
        return (items, weights, dense_weights(weights)) if self.dense else (items, weights)

    def forward(self, items: Tensor, weights: Tensor, whole: Tensor | None = None) -> Tensor:
        """Weighted sum of the cross-entropies of the masked digits (eq. 3), or of their items, and with dense retrieval of texts.

        Divide by the step's summed weights.

        Args:
            items: [B, n], −1 at padding.
            weights: [B, n, H] as `draw` made them; the digits with a weight are masked.
            whole: [B, n] as `draw` made them, with dense retrieval.
        """
        (B, n, H), P = weights.shape, self.tokens_per_item
        masked = weights > 0
        truth = self.item_digits[items]  # [B, n, H]
        digits, shown, real = torch.where(masked, self.masks, truth), items.masked_fill(masked.any(2), -1), self._real(items)
        asked = masked.view(B, n * P, H // P).any(2).flatten().nonzero().squeeze(1)  # [M] into B·n·P, tokens with a mask
        if self.prefix:
            layout, digits = Layout.two_streams(real, P), torch.cat((truth, digits), dim=1)
            shown = torch.cat((items, torch.full_like(items, -1)), dim=1)
        else:
            layout = Layout.of(real)

        def index(token: Tensor) -> Tensor:  # into B·n·P → into T; with prefix attention they are in the second stream
            return layout.index(token + (token // (n * P) + 1) * n * P if self.prefix else token)

        x, begun, loss = self._enter(digits, shown, layout, True), 0, 0.0
        if "PREV" in XP:
            prev = F.pad(items[:, :-1], (1, 0), value=-1)
            none = torch.full_like(prev, -1)
            mask = self.item_digits[torch.cat((none, prev), 1)]
            x = x + self.xprev(self._prev(layout.flat(torch.cat((none, prev), dim=1))))
        if self.dense:
            chosen = whole.flatten().nonzero().squeeze(1)  # [W] into B·n
            x, begun = self.encoder.begin(x, layout, self.config.dense_depth), self.config.dense_depth
            states = x.index_select(0, index(self._tokens_of(chosen)))  # [W·P, D]
            loss = self.dense(states, items.flatten()[chosen]) @ whole.flatten()[chosen]
        hidden = self.encoder(x, layout, index(asked), begun)  # [M, D]
        weights, truth = weights.flatten(0, 1), truth.flatten(0, 1)  # [B·n, H]
        if self.joint:  # a token is an item, that weighs what its digits do
            shares, answers = weights[asked], items.flatten()[asked].long()
            return loss + joint_loss(hidden, self.vectors(), self.item_digits[:-1], answers, shares > 0, shares.sum(1))
        return loss + self._digit_loss(hidden, asked, truth, weights)

    def _digit_loss(self, hidden: Tensor, asked: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
        """Weighted sum of the masked digits' cross-entropies, each over its V codes.

        Args:
            hidden: states [M, D].
            asked: whose they are, [M] into the B·n·P tokens.
            truth: digits [B·n, H].
            weights: [B·n, H].
        """
        masked, P = weights > 0, self.tokens_per_item
        digit, item = masked.T.nonzero(as_tuple=True)  # grouped by digit: one matrix product a digit
        states = hidden.index_select(0, torch.searchsorted(asked, item * P + digit // (self.digits // P)))
        parts = (states, truth[item, digit] % self.codes, weights[item, digit])
        counts, loss = masked.sum(0).tolist(), hidden.new_zeros((), dtype=torch.float32)
        for head, z, code, weight in zip(self.head, *(part.split(counts) for part in parts), strict=True):
            loss = loss + F.cross_entropy((z @ head).float(), code, reduction="none") @ weight
        return loss

    def hidden(self, digits: Tensor, shown: Tensor, keep: int) -> Tensor:
        """Hidden states [B, keep·P, D] of the last `keep` items of rows of items, given as digits [B, n, H]; full attention.

        Args:
            shown: [B, n], the items that bring all they have, −1 for the others.
        """
        B, n, P = *shown.shape, self.tokens_per_item
        layout = Layout.of((digits[:, :, 0] != self.pad).repeat_interleave(P, dim=1))
        last = (torch.arange(B, device=shown.device)[:, None] * n + torch.arange(n - keep, n, device=shown.device)).flatten()
        return self.encoder(self._enter(digits, shown, layout), layout, layout.index(self._tokens_of(last))).view(B, keep * P, -1)

    def dense_query(self, history: Tensor) -> Tensor:
        """The next item's text embedding as the model expects it, to be multiplied with those of all items (`dense.text`).

        One pass through the first η layers, the next item's H digits masked; the same for every attention.

        Args:
            history: [B, n] items, −1 at padding.

        Returns:
            float32 [B, E].
        """
        B, n = history.shape
        items = F.pad(history, (0, 1), value=-1)
        digits = torch.cat((self.item_digits[history], self.masks.expand(B, 1, -1)), dim=1)  # [B, n + 1, H]
        real = F.pad(self._real(history), (0, self.tokens_per_item), value=True)
        layout = self._layout(real)
        last = torch.arange(n, B * (n + 1), n + 1, device=history.device)  # the masked items, into B·(n + 1)
        x = self.encoder.begin(self._enter(digits, items, layout), layout, self.config.dense_depth)
        return self.dense.query(x.index_select(0, layout.index(self._tokens_of(last)))).float()

    def given(self, history: Tensor, approximate: bool = False) -> LogProbabilities:
        """What the decoder asks: codes [B, K, S] → log-probabilities [B, K, S, V], given the histories [B, n] (−1 at padding).

        Args:
            approximate: with full attention, encode the history once, as if it did not see the masks. Faster, and not
                what the model was trained for; with prefix attention this is exact and always done.
        """
        if self.prefix or approximate:
            return self.expecting(partial(self.states_after, self.remember(history)))
        return self.expecting(partial(self.states, history))

    def expecting(self, states: Callable[[Tensor], Tensor]) -> LogProbabilities:
        """States [B, K, k·P, D] as a function of codes [B, K, S] → log-probabilities [B, K, S, V] as a function of them.

        Codes are V where still masked; S is H digits for each item that comes next. At revealed digits the
        log-probabilities, float32, mean nothing.
        """
        if self.joint:
            if self._vectors is None:
                self._vectors = self.vectors().float()
            return Joint(states, self._vectors, self._members)
        return lambda codes: self._expect(states(codes))

    def states(self, history: Tensor, codes: Tensor) -> Tensor:
        """The states [B, K, k·P, D] of what comes after the histories [B, n], of which codes [B, K, S] are revealed. Full attention."""
        B, K, S = codes.shape
        k = S // self.digits
        past = self.item_digits[history][:, None].expand(B, K, -1, -1)  # [B, K, n, H]
        digits = torch.cat((past, self._digits(codes)), dim=2).flatten(0, 1)  # [B·K, n + k, H]
        shown = F.pad(history, (0, k), value=-1).repeat_interleave(K, dim=0)
        return self.hidden(digits, shown, k).unflatten(0, (B, K))

    def remember(self, history: Tensor) -> Cache:
        """Encode histories [B, n] (−1 at padding) once, for `states_after`."""
        real = self._real(history)
        layout = self._layout(real)
        x = self._enter(self.item_digits[history], history, layout)
        if "PREV" in XP:
            self._xlast = self.xprev(self._prev(history[:, -1])) if history.shape[1] else 0
        return self.encoder.remember(x, layout, None if layout.where is None else real)

    def extend(self, cache: Cache, items: Tensor) -> Cache:
        """The cache of histories that one more item [B] each has joined; exact with prefix attention."""
        layout = Layout.of(self._real(items[:, None]))
        x = layout.padded(self._enter(self.item_digits[items][:, None], items[:, None], layout))  # [B, P, D]
        return cache.extended(self.encoder.step(x[:, None], cache)[1])

    def states_after(self, cache: Cache, codes: Tensor) -> Tensor:
        """As `states`, at a cost of k·P tokens a beam whatever the length of the history."""
        x = self._embed(self._tokens(self._digits(codes)).flatten(2, 3))
        if "PREV" in XP:
            x = x + self._xlast[:, None, None]
        return self.encoder.step(x, cache)[0]

    def vectors(self) -> Tensor:
        """What energies are products with, for joint digits: the items as they enter the model, [N, D]."""
        everything = torch.arange(len(self.item_digits) - 1, device=self.item_digits.device)[:, None]
        return self._enter(self.item_digits[everything], everything, Layout.of(self._real(everything)))

    def train(self, mode: bool = True) -> MaskGR:
        """Forgets what was computed from the weights."""
        self._vectors = None
        return super().train(mode)

    @cached_property
    def _members(self) -> Members:
        return Members(self.item_digits[:-1] % self.codes, self.codes)

    def _real(self, items: Tensor) -> Tensor:
        """Which tokens of items [B, n] are real, [B, n·P]."""
        return (items >= 0).repeat_interleave(self.tokens_per_item, dim=1)

    def _layout(self, real: Tensor) -> Layout:
        return Layout.causal(real, self.tokens_per_item) if self.prefix else Layout.of(real)

    def _tokens_of(self, items: Tensor) -> Tensor:
        """Flat indices of items, into B·n, → those of their tokens, into B·n·P."""
        P = self.tokens_per_item
        return (items[:, None] * P + torch.arange(P, device=items.device)).flatten()

    def _prev(self, item):
        found = self._embed(self.item_digits[item][..., None, :]).squeeze(-2)
        found = found + self.item_embedding(torch.where(item < 0, self.item_embedding.padding_idx, item))
        if "TEXT" in XP:
            found = found + self.xin(self.xtext[item])
        return found * (item >= 0)[..., None]

    def _enter(self, digits: Tensor, shown: Tensor, layout: Layout, drop=False) -> Tensor:
        """Items as digits [B, n, H] → their real tokens [T, D], those of `shown` items [B, n] with all else they bring; −1: none."""
        x = self._embed(layout.flat(self._tokens(digits).flatten(1, 2)))
        if self.item_embedding is not None:
            item = layout.flat(shown)
            if drop and self.training and "IDROP" in XP:
                item = torch.where(torch.rand(item.shape) < XP["IDROP"], -1, item)
            if "TEXT" in XP:
                x = x + self.xin(self.xtext[item])
            x = x + self.item_embedding(torch.where(item < 0, self.item_embedding.padding_idx, item))
        return x + layout.flat(self.dense.inputs(shown)) if self.dense else x

    def _tokens(self, digits: Tensor) -> Tensor:
        """Digits [..., H] → those of each token, [..., P, H/P]."""
        return digits.unflatten(-1, (self.tokens_per_item, -1))

    def _embed(self, tokens: Tensor) -> Tensor:
        """Tokens as digits [..., H/P] → [..., D], the sum of their digits' embeddings."""
        if tokens.shape[-1] == 1:
            return self.embedding(tokens.squeeze(-1))
        return F.embedding_bag(tokens.flatten(0, -2), self.embedding.weight, mode="sum").view(*tokens.shape[:-1], self.config.width)

    def _digits(self, codes: Tensor) -> Tensor:
        """Codes [B, K, S], V where masked, → digits [B, K, k, H]."""
        codes = codes.unflatten(2, (-1, self.digits))
        return torch.where(codes == self.codes, self.masks, codes + torch.arange(self.digits, device=codes.device) * self.codes)

    def _expect(self, hidden: Tensor) -> Tensor:
        """Hidden states [B, K, k·P, D] → log-probabilities [B, K, S, V]."""
        rows = hidden.unflatten(2, (-1, self.tokens_per_item)).flatten(0, 2).expand(-1, self.digits, -1)  # [B·K·k, H, D]
        logits = torch.einsum("bhd,hdv->bhv", rows, self.head).float()
        return logits.log_softmax(-1).view(*hidden.shape[:2], -1, self.codes)
