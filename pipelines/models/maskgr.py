"""MaskGR: a bidirectional transformer that fills in masked digits of semantic IDs (arXiv 2511.23021).

Vocabulary: H·V digit codes (code c of digit h is token h·V + c), then MASK, then PAD. Digit h can only take
digit h's codes: its logits are V wide and come from a head of its own.

With full attention (the paper's) every token sees every other, so a history's hidden states depend on what is masked
after it. With prefix attention, a variant of ours, an item sees itself and the clean items before it: training predicts
every item of a sequence from its clean past in one pass over two streams (as block diffusion does, Arriola et al.
2025), and decoding encodes a history once.

With dense retrieval (see `dense.DenseHead`) visible items also bring their texts, and the states of a wholly masked item
predict its text embedding.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.models.config import ModelConfig
from pipelines.models.dense import DenseHead, dense_weights
from pipelines.models.noise import cut_to_next_item, forget_history, masked_diffusion_weights
from pipelines.models.transformer import Cache, Encoder, Layout

WHOLE_ITEM = 0.2  # β with dense retrieval (section 4.6)


class MaskGR(nn.Module):
    """Masked diffusion over the digits of a history.

    Histories are [B, n] item numbers, padded on the left with −1; they become L = n·H tokens.
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
        self.config, self.codes, self.digits = config, codes, sids.shape[1]
        self.mask, self.pad = self.digits * codes, self.digits * codes + 1
        tokens = torch.as_tensor(sids, dtype=torch.int64) + torch.arange(self.digits) * codes  # [N, H]
        tokens = torch.cat((tokens, torch.full((1, self.digits), self.pad)))  # item −1 is the last row: PAD
        self.register_buffer("item_tokens", tokens, persistent=False)
        self.embedding = nn.Embedding(self.pad + 1, config.width)
        self.digit_embedding = nn.Embedding(self.digits, config.width)  # tells a MASK which digit it stands for
        self.encoder = Encoder(config)
        self.prefix = config.attention == "prefix"
        self.head = nn.Parameter(torch.empty(self.digits, config.width, codes))
        for weight in (self.embedding.weight, self.digit_embedding.weight):
            nn.init.normal_(weight, std=config.width**-0.5)
        nn.init.normal_(self.head, std=config.width**-0.5)
        self.dense = DenseHead(config, self.digits, text) if config.dense else None
        self._ddp_params_and_buffers_to_ignore = [name for name, _ in self.named_buffers()]  # the same data in all processes

    @property
    def tokens_per_item(self) -> int:
        """What an item of a training sequence costs: H, or with prefix attention twice that, for the two streams."""
        return 2 * self.digits if self.prefix else self.digits

    def draw(
        self,
        items: np.ndarray,
        rng: np.random.Generator,
        next_item: float = 0.0,
        forget: float = 0.0,
        ahead: int = 1,
        whole_item: float | None = None,
    ) -> tuple[np.ndarray, ...]:
        """What one whole optimiser step trains on.

        Args:
            items: [B, n], −1 at padding.
            next_item: share of sequences that become next-item examples (see `noise.cut_to_next_item`); prefix attention,
                for which every item is one, does not look at it.
            ahead: items k that such an example asks for.
            forget: share of sequences of which one item is left (see `noise.forget_history`), for guidance.
            whole_item: share of sequences, with prefix attention of items, whose digits are masked together (see
                `noise.masked_diffusion_weights`); None for `WHOLE_ITEM` with dense retrieval, else 0.

        Returns:
            What `forward` takes: the items [B, n], float32 [B, n, H] weights of their digits, 0 where visible, and with
            dense retrieval float32 [B, n] weights of the wholly masked items.
        """
        if whole_item is None:
            whole_item = WHOLE_ITEM if self.dense else 0.0
        items = forget_history(items, forget, rng)
        if self.prefix:  # each item draws a rate of its own
            real = items >= 0
            weights = np.zeros((*items.shape, self.digits), np.float32)
            weights[real] = masked_diffusion_weights(np.ones((real.sum(), 1, self.digits), bool), rng, whole_item)[:, 0]
        else:
            items, eligible = cut_to_next_item(items, next_item, rng, ahead)
            weights = masked_diffusion_weights(np.broadcast_to(eligible[:, :, None], (*items.shape, self.digits)), rng, whole_item)
        return (items, weights, dense_weights(weights)) if self.dense else (items, weights)

    def forward(self, items: Tensor, weights: Tensor, whole: Tensor | None = None) -> Tensor:
        """Weighted sum of the cross-entropies of the masked digits (eq. 3), and with dense retrieval of the wholly masked items.

        Divide by the step's summed weights.

        Args:
            items: [B, n], −1 at padding.
            weights: [B, n, H] as `draw` made them; the digits with a weight are masked.
            whole: [B, n] as `draw` made them, with dense retrieval.
        """
        masked = weights > 0
        truth = self.item_tokens[items]  # [B, n, H]
        tokens = truth.masked_fill(masked, self.mask).flatten(1)  # [B, L]
        where = masked.flatten().nonzero().squeeze(1)  # [M] into B·L
        where = where[torch.argsort(where % self.digits, stable=True)]  # grouped by digit: one matrix product a digit
        shown, L = items.masked_fill(masked.any(2), -1), tokens.shape[1]
        if self.prefix:
            layout, tokens = Layout.two_streams(tokens != self.pad, self.digits), torch.cat((truth.flatten(1), tokens), dim=1)
            shown = torch.cat((items, torch.full_like(items, -1)), dim=1)
        else:
            layout = Layout.of(tokens != self.pad)

        def index(where: Tensor) -> Tensor:  # of masked tokens into T; with prefix attention they are in the second stream
            return layout.index(where + (where // L + 1) * L if self.prefix else where)

        x, begun, dense_loss = self._enter(tokens, layout, self._text(shown)), 0, 0.0
        if self.dense:
            chosen = whole.flatten().nonzero().squeeze(1)  # [W] into B·n
            x, begun = self.encoder.begin(x, layout, self.config.dense_depth), self.config.dense_depth
            states = x.index_select(0, index(self._digits_of(chosen)))  # [W·H, D]
            dense_loss = self.dense(states, items.flatten()[chosen]) @ whole.flatten()[chosen]
        hidden = self.encoder(x, layout, index(where), begun)  # [M, D]
        counts = masked.flatten(0, 1).sum(0).tolist()
        code = truth.flatten()[where] % self.codes
        groups = zip(hidden.split(counts), code.split(counts), weights.flatten()[where].split(counts), self.head, strict=True)
        return sum((F.cross_entropy((h @ head).float(), c, reduction="none") @ w for h, c, w, head in groups), dense_loss)

    def hidden(self, tokens: Tensor, layout: Layout, keep: Tensor, text: Tensor | None = None) -> Tensor:
        """Hidden states [M, D] of the tokens [B, L] whose flat indices are `keep` [M]; `text` [B, L, D] as `_text` made it."""
        return self.encoder(self._enter(tokens, layout, text), layout, layout.index(keep))

    def dense_query(self, history: Tensor) -> Tensor:
        """The next item's text embedding as the model expects it, to be multiplied with those of all items (`dense.text`).

        One pass through the first η layers, the next item's H digits masked; the same for every attention.

        Args:
            history: [B, n] items, −1 at padding.

        Returns:
            float32 [B, E].
        """
        (B, n), H = history.shape, self.digits
        tokens = F.pad(self.item_tokens[history].flatten(1), (0, H), value=self.mask)  # [B, L]
        real = tokens != self.pad
        layout = Layout.causal(real, H) if self.prefix else Layout.of(real)
        x = self._enter(tokens, layout, self._text(F.pad(history, (0, 1), value=-1)))
        last = torch.arange(n, B * (n + 1), n + 1, device=history.device)  # the masked items, into B·(n + 1)
        x = self.encoder.begin(x, layout, self.config.dense_depth)
        return self.dense.query(x.index_select(0, layout.index(self._digits_of(last)))).float()

    def given(self, history: Tensor, approximate: bool = False) -> Callable[[Tensor], Tensor]:
        """What the decoder asks: codes [B, K, S] → log-probabilities [B, K, S, V], given the histories [B, n] (−1 at padding).

        Args:
            approximate: with full attention, encode the history once, as if it did not see the masks. Faster, and not
                what the model was trained for; with prefix attention this is exact and always done.
        """
        if self.prefix or approximate:
            return partial(self.log_probabilities_after, self.remember(history))
        return partial(self.log_probabilities, history)

    def log_probabilities(self, history: Tensor, codes: Tensor) -> Tensor:
        """What the model expects at each digit of what comes next, given the digits already revealed. Full attention.

        Args:
            history: [B, n] items, −1 at padding.
            codes: [B, K, S] codes of each beam, V where still masked; S is H digits for each item that comes next.

        Returns:
            float32 [B, K, S, V] log-probabilities, at revealed digits too (they mean nothing there).
        """
        B, K, S = codes.shape
        past = self.item_tokens[history].flatten(1)[:, None].expand(B, K, -1)  # [B, K, n·H]
        tokens = torch.cat((past, self._targets(codes)), dim=2).flatten(0, 1)  # [B·K, L]
        text = self._text(F.pad(history, (0, S // self.digits), value=-1))  # [B, L, D]
        text = text if text is None else text.repeat_interleave(K, dim=0)
        L = tokens.shape[1]
        ends = torch.arange(B * K, device=codes.device) * L + L - S
        keep = (ends[:, None] + torch.arange(S, device=codes.device)).flatten()
        return self._expect(self.hidden(tokens, Layout.of(tokens != self.pad), keep, text).view(B, K, S, -1))

    def remember(self, history: Tensor) -> Cache:
        """Encode histories [B, n] (−1 at padding) once, for `log_probabilities_after`."""
        tokens = self.item_tokens[history].flatten(1)  # [B, L]
        real = tokens != self.pad
        layout = Layout.causal(real, self.digits) if self.prefix else Layout.of(real)
        x = self._enter(tokens, layout, self._text(history))
        return self.encoder.remember(x, layout, None if layout.where is None else real)

    def extend(self, cache: Cache, items: Tensor) -> Cache:
        """The cache of histories that one more item [B] each has joined; exact with prefix attention."""
        tokens, text = self.item_tokens[items][:, None], self._text(items[:, None])  # [B, 1, H]; [B, H, D]
        x = self._embed(tokens, self._digit(tokens))
        return cache.extended(self.encoder.step(x if text is None else x + text[:, None], cache)[1])

    def log_probabilities_after(self, cache: Cache, codes: Tensor) -> Tensor:
        """As `log_probabilities`, at a cost of S tokens a beam whatever the length of the history."""
        tokens = self._targets(codes)
        return self._expect(self.encoder.step(self._embed(tokens, self._digit(tokens)), cache)[0])

    def _digit(self, tokens: Tensor) -> Tensor:
        """Which digit each token is, by its place in the last dimension."""
        return (torch.arange(tokens.shape[-1], device=tokens.device) % self.digits).expand_as(tokens)

    def _digits_of(self, items: Tensor) -> Tensor:
        """Flat indices of items, into B·n, → those of their digits, into B·n·H."""
        return (items[:, None] * self.digits + torch.arange(self.digits, device=items.device)).flatten()

    def _enter(self, tokens: Tensor, layout: Layout, text: Tensor | None) -> Tensor:
        """Embedded real tokens [T, D] of [B, L], and what their items' texts add, [B, L, D]."""
        x = self._embed(layout.flat(tokens), layout.flat(self._digit(tokens)))
        return x if text is None else x + layout.flat(text)

    def _text(self, shown: Tensor) -> Tensor | None:
        """What the texts of `shown` items [B, n] add to their digits, [B, n·H, D]; None without dense retrieval."""
        return self.dense.inputs(shown) if self.dense else None

    def _embed(self, tokens: Tensor, digit: Tensor) -> Tensor:
        return self.embedding(tokens) + self.digit_embedding(digit)  # [..., D]

    def _targets(self, codes: Tensor) -> Tensor:
        return torch.where(codes == self.codes, self.mask, codes + self._digit(codes) * self.codes)

    def _expect(self, hidden: Tensor) -> Tensor:
        """Hidden states [B, K, S, D] → log-probabilities [B, K, S, V]."""
        rows = hidden.unflatten(2, (-1, self.digits)).flatten(0, 2)  # [B·K·S/H, H, D]
        logits = torch.einsum("bhd,hdv->bhv", rows, self.head).float()
        return logits.log_softmax(-1).view(*hidden.shape[:3], self.codes)
