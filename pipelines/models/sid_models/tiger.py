"""TIGER: an encoder–decoder that generates the next items' semantic IDs digit by digit (Rajput et al. 2023,
arXiv 2305.05065).

A token is a digit. The encoder reads the digits of a history, each of which sees all others; the decoder
predicts every digit from the history and the digits before it. A history is therefore encoded once for each
of its targets: what a decoder sees of a history depends on where the history ends, and no pass over a whole
sequence stands for its prefixes.

Differences from the paper: the blocks are those of all models here (LayerNorm, rotary positions, GELU) in
place of T5's (RMSNorm, relative position buckets, ReLU); heads share the width (6 heads of 64 make it 384);
each digit has a head of its own for its V codes; the token of the user, where there is one, ends the history
instead of beginning it.

Special tokens: the end of a history, the start of what follows, and user tokens.

Shapes: B users, n items of a history, K beams, k horizon, H digits per item, S = k·H, V codes per digit, N
items, D width, M packed tokens."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.data.catalogue import Catalogue
from pipelines.models.base import DigitModel, ignore_buffers
from pipelines.models.denoiser import Denoiser, IndependentDigits
from pipelines.models.nn.attention import KeysValues
from pipelines.models.nn.decoder import Decoder, Memory
from pipelines.models.nn.packing import Layout, to_device
from pipelines.models.nn.transformer import Encoder
from pipelines.models.objectives.soft_targets import SoftTargets, TeacherItems
from pipelines.models.sid.digit_heads import DigitHeads
from pipelines.models.sid.embedding import SidEmbedding
from pipelines.models.sid_models.config import TIGERConfig


class TIGER(DigitModel):
    """Autoregressive generation of digits from left to right, one per function evaluation."""

    config: TIGERConfig
    orders = ("left-to-right",)
    scores_items = False
    decoding_options = frozenset({"unmask", "constrained", "nearest"})

    def __init__(self, config: TIGERConfig, catalogue: Catalogue) -> None:
        super().__init__()
        self.config, self.items, self.codes = config, catalogue.items, catalogue.codes
        sids = catalogue.require_sids()
        self.digits = self.tokens_per_item = sids.shape[1]
        self.embedding = SidEmbedding(sids, self.codes, config.width, specials=2 + config.user_tokens)
        self.embedding.initialize()
        self.end = self.embedding.first_special
        self.start_token = self.end + 1
        self.first_user = self.end + 2
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.heads = DigitHeads(self.digits, config.width, self.codes, config.label_smoothing)
        self.uses_user_ids = config.user_tokens > 0
        ignore_buffers(self)

    def history_vectors(self) -> Tensor:
        return self.embedding.item_vectors()

    def make_training_batch(
        self, items: np.ndarray, rng: np.random.Generator, horizon: int = 1
    ) -> tuple[np.ndarray, ...]:
        """Return the items [B, n], and weight 1 for each digit of the last `horizon` items, float32 [B, n,
        H].
        """
        weights = np.zeros((*items.shape, self.digits), np.float32)
        weights[:, -horizon:] = (items[:, -horizon:] >= 0)[:, :, None]
        return items, weights

    def forward(
        self,
        items: np.ndarray,
        weights: np.ndarray,
        users: np.ndarray | None = None,
        *,
        soft: SoftTargets | None = None,
    ) -> Tensor:
        """Compute the weighted sum of the cross-entropies of the targets' digits, given the history and the
        digits before them.
        """
        states, targets, digit_weights = self.teacher_forced(items, weights, users)
        return self._digit_loss(states, targets, digit_weights, self.teacher_items(soft, targets))

    def teacher_forced(
        self, items: np.ndarray, weights: np.ndarray, users: np.ndarray | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run the decoder over the true digits.

        Returns:
            States [B, S, D] that predict the targets' digits; the targets, int64 [B, k]; weights of their
            digits [B, k, H].
        """
        device = self.embedding.weight.device
        k = int((np.asarray(weights) > 0).any((0, 2)).sum())
        sequences = torch.as_tensor(items)
        history, targets = sequences[:, :-k], to_device(sequences[:, -k:], device).long()
        ids = None
        if self.uses_user_ids:
            assert users is not None, "a model with user tokens needs user ids"
            ids = to_device(torch.as_tensor(users[:, 0]), device)
        memory = self.encode(to_device(history, device).long(), history >= 0, ids)
        digits = self.embedding.item_tokens(targets).flatten(1)  # [B, S]
        before = F.pad(digits[:, :-1], (1, 0), value=self.start_token)
        states = self.decoder(self.embedding(before), memory)
        return states, targets, to_device(torch.as_tensor(weights)[:, -k:], device)

    @staticmethod
    def teacher_items(soft: SoftTargets | None, targets: Tensor) -> TeacherItems | None:
        """Return the teachers' items of targets [B, k], the last items of their rows: of B·k rows."""
        if soft is None:
            return None
        (B, k), n = targets.shape, soft.places.shape[1]
        chosen = torch.arange(n - k, n) + n * torch.arange(B)[:, None]
        return soft.of(chosen.flatten(), targets.device)

    def _digit_loss(
        self, states: Tensor, targets: Tensor, weights: Tensor, teacher: TeacherItems | None
    ) -> Tensor:
        """Compute the weighted sum of cross-entropies.

        Args:
            states, targets, weights: as `teacher_forced` returns them.
            teacher: items of teachers at the targets; a digit's target is restricted to those that agree with
                the digits before it.
        """
        H, R = self.digits, targets.numel()
        by_digit = states.view(-1, H, states.shape[2]).transpose(0, 1).flatten(0, 1)  # [H·R, D]
        weight, counts = weights.flatten(0, 1).T.flatten(), [R] * H
        if teacher is None:
            codes = self.embedding.sids_of(targets).flatten(0, 1).T.flatten()  # [H·R], grouped by digit
            return self.heads.loss(by_digit, codes, weight, counts)
        digit = torch.arange(H, device=targets.device).repeat_interleave(R)  # [H·R]
        row = torch.arange(R, device=targets.device).repeat(H)
        truth, later = targets.flatten()[row], torch.arange(H, device=targets.device) >= digit[:, None]
        mixture = teacher.select(row).agreeing(self.embedding.sids, truth, later).mixed(truth)
        codes = self.embedding.sids[mixture.items, digit[:, None]].long()  # [H·R, J]
        return self.heads.loss(by_digit, codes, weight, counts, mixture.shares)

    def encode(self, history: Tensor, real: Tensor, users: Tensor | None = None) -> Memory:
        """Encode histories for the decoder.

        Args:
            history: int64 [B, n], −1 at padding.
            real: padding mask, bool [B, n], False at padding; on the host where a GPU must not be waited for.
            users: user ids, int64 [B], where users have tokens.
        """
        tokens = F.pad(self.embedding.item_tokens(history).flatten(1), (0, 1), value=self.end)  # [B, n·H + 1]
        if self.uses_user_ids:
            assert users is not None, "a model with user tokens needs user ids"
            tokens[:, -1] = self.first_user + users % self.config.user_tokens
        mask = F.pad(real.repeat_interleave(self.digits, dim=1), (0, 1), value=True)
        layout = Layout.bidirectional(mask, history.device)
        x = self._embed(layout.pack(tokens), history, layout)  # [M, D]
        return self.decoder.prefill(self.encoder(x, layout, torch.arange(len(x), device=x.device)), layout)

    def _embed(self, tokens: Tensor, history: Tensor, layout: Layout) -> Tensor:
        """Embed the packed tokens [M] of histories [B, n]: [M, D]."""
        embedded: Tensor = self.embedding(tokens)
        return embedded

    def denoiser(
        self, history: Tensor, users: Tensor | None = None, *, approximate: bool = False
    ) -> Denoiser:
        """Condition the model on histories; see `DigitModel.denoiser`."""
        return NextDigit(self, self.encode(history, history >= 0, users))


class NextDigit(IndependentDigits):
    """Denoiser that knows the next digit of each beam alone: its log-probabilities stand at every digit.

    All beams have unmasked the same number of digits, from the left. A function evaluation continues the last
    one: a beam takes over the keys and values of the beam that it continues, and so costs one token."""

    def __init__(self, model: TIGER, memory: Memory) -> None:
        super().__init__(self._next_digit)
        self._model, self._memory = model, memory
        self._cache: tuple[Tensor, list[KeysValues]] | None = (
            None  # codes [B, K, S], and their keys and values
        )

    def _next_digit(self, codes: Tensor) -> Tensor:
        """Return the log-probabilities of the next digit of codes [B, K, S]: float32 [B, K, S, V]."""
        (B, K, S), model = codes.shape, self._model
        unmasked = int((codes[0, 0] < model.codes).sum())
        if unmasked:
            past = self._past(codes, unmasked)
            tokens = codes[:, :, unmasked - 1] + model.embedding.offsets[(unmasked - 1) % model.digits]
        else:
            past = self._memory.empty_cache(B * K)
            tokens = torch.full_like(codes[:, :, 0], model.start_token)
        states, past = model.decoder.decode_step(model.embedding(tokens), self._memory, past)
        self._cache = codes, past
        logp = model.heads.logits(states, unmasked % model.digits).log_softmax(-1)  # [B, K, V]
        return logp[:, :, None].expand(-1, -1, S, -1)

    def _past(self, codes: Tensor, unmasked: int) -> list[KeysValues]:
        """Return the keys and values of the beams that `codes` [B, K, S] continue by one digit; compute them
        where they are not cached.
        """
        before = codes.clone()
        before[:, :, unmasked - 1 :] = self._model.codes
        if self._cache is None or not self._same(before, self._cache[0]).any(2).all():
            self._next_digit(before)
        assert self._cache is not None
        cached, past = self._cache
        same = self._same(before, cached)  # [B, K, K']
        B, _, wide = same.shape
        rows = same.byte().argmax(2) + torch.arange(0, B * wide, wide, device=codes.device)[:, None]
        return [(k.index_select(0, rows.flatten()), v.index_select(0, rows.flatten())) for k, v in past]

    @staticmethod
    def _same(codes: Tensor, cached: Tensor) -> Tensor:
        """Compare beams [B, K, S] with cached beams [B, K', S]: bool [B, K, K']."""
        return (codes[:, :, None] == cached[:, None]).all(3)
