"""TIGER: an encoder–decoder that spells the next items' semantic IDs digit by digit (Rajput et al. 2023, arXiv 2305.05065).

A token is a digit. The encoder reads the digits of a history, each seeing all; the decoder predicts every digit from the history and the
digits before it. So a history is encoded once for each of its targets: what a decoder sees of a history depends on where the history
ends, and no pass over a whole sequence stands for its prefixes.

Against the paper: the blocks are those of all models here (LayerNorm, rotary positions, GELU) in place of T5's (RMSNorm, relative position
buckets, ReLU), heads share the width (6 heads of 64 make it 384), each digit's logits come from a map of its own to its V codes, and the
user's token, where there is one, ends the history instead of beginning it.

Vocabulary: H·V digit codes (code c of digit h is number h·V + c), the end of a history, the start of what follows, and user tokens.

Shapes: B users, n items of a history, K beams, k items that follow, H digits an item, S = k·H, V codes, N items, D width, T real tokens.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.models.catalogue import Catalogue
from pipelines.models.config_digits import TIGERConfig
from pipelines.models.decoder import Decoder, Memory
from pipelines.models.independent import DigitHeads
from pipelines.models.interface import DigitModel
from pipelines.models.joint import LogProbabilities
from pipelines.models.layout import Layout, put
from pipelines.models.transformer import Encoder, KeysValues


class TIGER(DigitModel):
    """Digits from left to right, one an evaluation."""

    orders = ("left-to-right",)
    decoded_by = frozenset({"unmask", "constrained", "nearest"})

    def __init__(self, config: TIGERConfig, catalogue: Catalogue) -> None:
        super().__init__()
        self.config, self.items, self.codes = config, catalogue.items, catalogue.codes
        self.digits = self.tokens_per_item = H = catalogue.sids.shape[1]
        numbers = torch.as_tensor(catalogue.sids, dtype=torch.int64) + torch.arange(H) * self.codes
        self.register_buffer("item_digits", F.pad(numbers, (0, 0, 0, 1)), persistent=False)  # [N + 1, H]; item −1 is never embedded
        self.end = H * self.codes
        self.embedding = nn.Embedding(H * self.codes + 2 + config.user_tokens, config.width)
        nn.init.normal_(self.embedding.weight, std=config.width**-0.5)
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.heads = DigitHeads(H, config.width, self.codes, config.label_smoothing)
        self.knows_users = config.user_tokens > 0
        self._ddp_params_and_buffers_to_ignore = [name for name, _ in self.named_buffers()]  # the same data in all processes

    def draw(self, items: np.ndarray, rng: np.random.Generator, ahead: int = 1) -> tuple[np.ndarray, ...]:
        """The items [B, n], and 1 for each digit of the last `ahead` of them, float32 [B, n, H]."""
        weights = np.zeros((*items.shape, self.digits), np.float32)
        weights[:, -ahead:] = (items[:, -ahead:] >= 0)[:, :, None]
        return items, weights

    def forward(self, items: np.ndarray, weights: np.ndarray, users: np.ndarray | None = None) -> Tensor:
        """Weighted sum of the cross-entropies of the targets' digits, each given the history and the digits before it."""
        return self._digit_loss(*self._taught(items, weights, users))

    def _taught(self, items: np.ndarray, weights: np.ndarray, users: np.ndarray | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """States [B, S, D] of the targets' digits given those before, the targets [B, k] and what their digits count, [B, k, H]."""
        device, k = self.item_digits.device, int((np.asarray(weights) > 0).any((0, 2)).sum())
        items, weights = torch.as_tensor(items), torch.as_tensor(weights)
        history, following = items[:, :-k], put(items[:, -k:], device).long()
        users = put(torch.as_tensor(users[:, 0]), device) if self.knows_users else None
        memory = self.encode(put(history, device).long(), history >= 0, users)
        before = F.pad(self.item_digits[following].flatten(1)[:, :-1], (1, 0), value=self.end + 1)  # [B, S]
        return self.decoder(self.embedding(before), memory), following, put(weights[:, -k:], device)

    def _digit_loss(self, states: Tensor, following: Tensor, weights: Tensor) -> Tensor:
        """Weighted sum of cross-entropies; digits of the same place in an item lie side by side."""
        codes = self.item_digits[following] % self.codes  # [B, k, H]
        codes, weights = (part.flatten(0, 1).T.flatten() for part in (codes, weights))  # [H·B·k]
        by_digit = states.view(-1, self.digits, states.shape[2]).transpose(0, 1).flatten(0, 1)  # [H·B·k, D]
        return self.heads.loss(by_digit, codes, weights, [following.numel()] * self.digits)

    def encode(self, history: Tensor, real: Tensor, users: Tensor | None = None) -> Memory:
        """What the decoder sees of histories.

        Args:
            history: int64 [B, n], −1 at padding.
            real: bool [B, n], where there is no padding; on the host where a GPU shall not be waited for.
            users: int64 [B], where users have tokens.
        """
        tokens = F.pad(self.item_digits[history].flatten(1), (0, 1), value=self.end)  # [B, n·H + 1]
        if self.knows_users:
            tokens[:, -1] = self.end + 2 + users % self.config.user_tokens
        layout = Layout.of(F.pad(real.repeat_interleave(self.digits, dim=1), (0, 1), value=True), history.device)
        x = self._enter(layout.flat(tokens), history, layout)
        return self.decoder.remember(self.encoder(x, layout, torch.arange(len(x), device=x.device)), layout)

    def _enter(self, tokens: Tensor, history: Tensor, layout: Layout) -> Tensor:
        """Real tokens [T] of histories [B, n], embedded: [T, D]."""
        return self.embedding(tokens)

    def given(self, history: Tensor, users: Tensor | None = None) -> LogProbabilities:
        """See `Continuations`."""
        return Continuations(self, self.encode(history, history >= 0, users))


class Continuations:
    """What is expected after histories: codes [B, K, S], V where masked → log-probabilities [B, K, S, V] of each beam's next digit.

    The next digit's stand at every place. All beams have revealed the same number of digits, from the left. Each call goes on from the
    last one: a beam takes over the keys and values of the beam that it continues, and so costs one token.
    """

    def __init__(self, model: TIGER, memory: Memory) -> None:
        self.model, self.memory = model, memory
        self._last: tuple[Tensor, list[KeysValues]] | None = None  # codes [B, K, S], and the past of their beams

    def __call__(self, codes: Tensor) -> Tensor:
        """Ask the model."""
        (B, K, S), model = codes.shape, self.model
        revealed = int((codes[0, 0] < model.codes).sum())
        place = (revealed - 1) % model.digits
        if revealed:
            past, tokens = self._past(codes, revealed), codes[:, :, revealed - 1] + place * model.codes
        else:
            past, tokens = self.memory.nothing(B * K), torch.full_like(codes[:, :, 0], model.end + 1)
        states, past = model.decoder.step(model.embedding(tokens), self.memory, past)
        self._last = codes, past
        expected = model.heads.logits(states, revealed % model.digits).log_softmax(-1)  # [B, K, V]
        return expected[:, :, None].expand(-1, -1, S, -1)

    def _past(self, codes: Tensor, revealed: int) -> list[KeysValues]:
        """That of the beams which `codes` [B, K, S] continue by one digit; where they were not asked for last, they are now."""
        before = codes.clone()
        before[:, :, revealed - 1 :] = self.model.codes
        same = self._same(before)
        if same is None or not same.any(2).all():
            self(before)
            same = self._same(before)
        B, _, wide = same.shape  # [B, K, K']
        rows = same.byte().argmax(2) + torch.arange(0, B * wide, wide, device=codes.device)[:, None]
        return [tuple(part.index_select(0, rows.flatten()) for part in pair) for pair in self._last[1]]

    def _same(self, codes: Tensor) -> Tensor | None:
        """Which of the beams [B, K'] asked for last are which of `codes` [B, K, S], bool [B, K, K']; None at first."""
        return None if self._last is None else (codes[:, :, None] == self._last[0][:, None]).all(3)
