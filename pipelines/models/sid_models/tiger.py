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

from pipelines.data.catalogue import Catalogue
from pipelines.models.base import DigitModel
from pipelines.models.nn.decoder import Decoder, Memory
from pipelines.models.nn.packing import Layout, to_device
from pipelines.models.nn.transformer import Encoder, KeysValues
from pipelines.models.sid.digit_heads import DigitHeads
from pipelines.models.sid.item_softmax import Denoiser
from pipelines.models.sid_models.config import TIGERConfig


class TIGER(DigitModel):
    """Digits from left to right, one an evaluation."""

    orders = ("left-to-right",)
    decoding_options = frozenset({"unmask", "constrained", "nearest"})

    def __init__(self, config: TIGERConfig, catalogue: Catalogue) -> None:
        super().__init__()
        self.config, self.items, self.codes = config, catalogue.items, catalogue.codes
        self.digits = self.tokens_per_item = H = catalogue.sids.shape[1]
        numbers = torch.as_tensor(catalogue.sids, dtype=torch.int64) + torch.arange(H) * self.codes
        self.register_buffer(
            "item_digits", F.pad(numbers, (0, 0, 0, 1)), persistent=False
        )  # [N + 1, H]; item −1 is never embedded
        self.end = H * self.codes
        self.embedding = nn.Embedding(H * self.codes + 2 + config.user_tokens, config.width)
        nn.init.normal_(self.embedding.weight, std=config.width**-0.5)
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.heads = DigitHeads(H, config.width, self.codes, config.label_smoothing)
        self.uses_user_ids = config.user_tokens > 0
        self._ddp_params_and_buffers_to_ignore = [
            name for name, _ in self.named_buffers()
        ]  # the same data in all processes

    def make_training_batch(
        self, items: np.ndarray, rng: np.random.Generator, horizon: int = 1
    ) -> tuple[np.ndarray, ...]:
        """The items [B, n], and 1 for each digit of the last `horizon` of them, float32 [B, n, H]."""
        weights = np.zeros((*items.shape, self.digits), np.float32)
        weights[:, -horizon:] = (items[:, -horizon:] >= 0)[:, :, None]
        return items, weights

    def forward(self, items: np.ndarray, weights: np.ndarray, users: np.ndarray | None = None) -> Tensor:
        """Weighted sum of the cross-entropies of the targets' digits, each given the history and the digits before it."""
        return self._digit_loss(*self._taught(items, weights, users))

    def _taught(
        self, items: np.ndarray, weights: np.ndarray, users: np.ndarray | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """States [B, S, D] of the targets' digits given those before, the targets [B, k] and what their digits count, [B, k, H]."""
        device, k = self.item_digits.device, int((np.asarray(weights) > 0).any((0, 2)).sum())
        items, weights = torch.as_tensor(items), torch.as_tensor(weights)
        history, following = items[:, :-k], to_device(items[:, -k:], device).long()
        users = to_device(torch.as_tensor(users[:, 0]), device) if self.uses_user_ids else None
        memory = self.encode(to_device(history, device).long(), history >= 0, users)
        before = F.pad(self.item_digits[following].flatten(1)[:, :-1], (1, 0), value=self.end + 1)  # [B, S]
        return self.decoder(self.embedding(before), memory), following, to_device(weights[:, -k:], device)

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
        if self.uses_user_ids:
            tokens[:, -1] = self.end + 2 + users % self.config.user_tokens
        layout = Layout.of(
            F.pad(real.repeat_interleave(self.digits, dim=1), (0, 1), value=True), history.device
        )
        x = self._enter(layout.pack(tokens), history, layout)
        return self.decoder.prefill(self.encoder(x, layout, torch.arange(len(x), device=x.device)), layout)

    def _enter(self, tokens: Tensor, history: Tensor, layout: Layout) -> Tensor:
        """Real tokens [T] of histories [B, n], embedded: [T, D]."""
        return self.embedding(tokens)

    def denoiser(self, history: Tensor, users: Tensor | None = None) -> Denoiser:
        """See `Continuations`."""
        return Continuations(self, self.encode(history, history >= 0, users))


class Continuations:
    """What is expected after histories: codes [B, K, S], V where masked → log-probabilities [B, K, S, V] of each beam's next digit.

    The next digit's stand at every place. All beams have revealed the same number of digits, from the left. Each call goes on from the
    last one: a beam takes over the keys and values of the beam that it continues, and so costs one token.
    """

    def __init__(self, model: TIGER, memory: Memory) -> None:
        self.model, self.memory = model, memory
        self._last: tuple[Tensor, list[KeysValues]] | None = (
            None  # codes [B, K, S], and the past of their beams
        )

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
