"""DiffGRM: an encoder of histories and a masked-diffusion decoder of the next item's digits (Liu et al. 2025,
arXiv 2510.21805).

The encoder reads items, each the sum of its digits' embeddings; each item sees all others. The decoder reads
the H digits of the next item, some of them masked; digits see each other in both directions and attend to the
encoder's states, so that a history is encoded once. The parts of the method:

- Parallel semantic encoding: digits that describe different aspects of an item (OPQ) instead of refining each
  other. This is a matter of the semantic IDs (`maskgr tokenize --method opq`); the model takes any.
- On-policy coherent noising. The fully masked item shows the model's confidence in each digit (the
  probability of its likeliest code). R views of the example then mask the 1, 2, … digits of least confidence,
  each set within the next, so that training goes to the digits that are hard now and not to all 2^H − 1 sets.
  A view's loss is the mean over its masked digits, an example's the mean over its views.
- Confidence-guided parallel denoising: `--unmask confidence`, see `decode.beam`. The other orders work too.

Written from the abstract and from accounts of the paper, which leave these choices open: items bring an
embedding of their position, counted from the last; confidence is taken from the fully masked view, which the
last view is anyway, so that no further pass is needed; with fewer views than digits their sizes are as even
as possible and the last view is fully masked, where decoding begins; digits have heads of their own.

Shapes: B examples or users, n items of a history, K beams or views, R views, H digits per item, V codes per
digit, N items, D width."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.data.catalogue import Catalogue
from pipelines.models.base import DigitModel, ignore_buffers
from pipelines.models.denoiser import Denoiser, IndependentDigits
from pipelines.models.nn.decoder import Decoder, Memory
from pipelines.models.nn.packing import Layout, to_device
from pipelines.models.nn.precision import narrow_in_float32
from pipelines.models.nn.transformer import Encoder
from pipelines.models.objectives.soft_targets import SoftTargets
from pipelines.models.sid.digit_heads import DigitHeads
from pipelines.models.sid.embedding import SidEmbedding
from pipelines.models.sid_models.config import DiffGRMConfig


class MaskedDigitDecoder(Decoder):
    """A decoder of the digits of an item, which see each other in both directions."""

    @narrow_in_float32
    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        """Run the blocks: each digit sees the digits of its row, and the history that the K rows share.

        Args:
            x: embedded digits, [B, K, H, D].
            memory: of the B histories.

        Returns:
            [B, K, H, D].
        """
        shape = x.shape
        layout = Layout.unpadded(shape[0] * shape[1], shape[2], x.device)
        position = self._rotary(layout.position, x)
        x = self.dropout(x).flatten(0, 2)
        for block, keys_values in zip(self.blocks, memory.keys_values, strict=True):
            x = block.attend(x, layout, position)[0].view(shape[0], -1, shape[3])
            x = block.transform(block.cross_attend(x, keys_values, memory.mask)).flatten(0, 1)
        return self.norm(x).view(shape)


class DiffGRM(DigitModel):
    """Masked diffusion over the digits of the next item alone."""

    config: DiffGRMConfig
    orders = ("confidence", "greedy", "left-to-right", "random")
    view_sizes: Tensor  # number of masked digits of each view, int64 [R]

    def __init__(self, config: DiffGRMConfig, catalogue: Catalogue) -> None:
        super().__init__()
        self.config, self.items, self.codes = config, catalogue.items, catalogue.codes
        sids = catalogue.require_sids()
        self.digits = H = sids.shape[1]
        self.tokens_per_item = H  # of the decoder, whose tokens cost more than the encoder's
        self.embedding = SidEmbedding(sids, self.codes, config.width, masks=True)
        self.position = nn.Embedding(config.max_items, config.width)  # 0 is the last item of a history
        self.embedding.initialize()
        nn.init.normal_(self.position.weight, std=config.width**-0.5)
        self.encoder = Encoder(config)
        self.decoder = MaskedDigitDecoder(dataclasses.replace(config, layers=config.decoder_layers))
        self.heads = DigitHeads(H, config.width, self.codes, config.label_smoothing)
        views = min(config.views or H, H)
        sizes = torch.tensor([-(-H * r // views) for r in range(1, views + 1)])  # [R]
        self.register_buffer("view_sizes", sizes, persistent=False)
        ignore_buffers(self)

    def history_vectors(self) -> Tensor:
        return self.embedding.item_vectors()

    def make_training_batch(
        self, items: np.ndarray, rng: np.random.Generator, horizon: int = 1
    ) -> tuple[np.ndarray, ...]:
        """Draw an optimizer step; see `Recommender.make_training_batch`.

        Returns:
            The items [B, n]; weight 1 for the last item, float32 [B, n]; with `--noising random` also random
            numbers that rank the digits, float32 [B, n, H].
        """
        weights = np.zeros(items.shape, np.float32)
        weights[:, -1] = 1.0
        if self.config.noising == "on-policy":
            return items, weights
        return items, weights, rng.random((*items.shape, self.digits), dtype=np.float32)

    def forward(
        self,
        items: np.ndarray,
        weights: np.ndarray,
        ranks: np.ndarray | None = None,
        *,
        soft: SoftTargets | None = None,
    ) -> Tensor:
        """Compute the weighted sum of the mean losses of each example's views; arguments as
        `make_training_batch` returns them.
        """
        device, R = self.view_sizes.device, len(self.view_sizes)
        history = torch.as_tensor(items[:, :-1])
        targets = to_device(torch.as_tensor(items[:, -1]), device).long()
        memory = self.encode(to_device(history, device).long(), history >= 0)
        codes = self.embedding.sids_of(targets)  # [B, H]
        full = self.states(torch.full_like(codes, self.codes)[:, None], memory)  # [B, 1, H, D]
        confidence = (
            self.confidence(full) if ranks is None else to_device(torch.as_tensor(ranks[:, -1]), device)
        )
        masked = self.views(confidence)  # [B, R, H]
        others = self.states(
            codes[:, None].masked_fill(masked[:, :-1], self.codes), memory
        )  # [B, R − 1, H, D]
        states = torch.cat((others, full), dim=1)  # [B, R, H, D]
        weight = to_device(torch.as_tensor(weights[:, -1]), device)  # [B]
        shares = masked / (R * masked.sum(2, keepdim=True)) * weight[:, None, None]  # [B, R, H]

        def by_digit(part: Tensor) -> Tensor:  # [B, R, H, …] → [H·B·R, …]
            return part.flatten(0, 1).transpose(0, 1).flatten(0, 1)

        counts = [len(codes) * R] * self.digits
        if soft is None:
            true_codes = by_digit(codes[:, None].expand(-1, R, -1))  # [H·B·R]
            return self.heads.loss(by_digit(states), true_codes, by_digit(shares), counts)
        B, n = soft.places.shape
        teacher = soft.of(torch.arange(n - 1, B * n, n), device)
        row = torch.arange(B, device=device).repeat_interleave(R)  # [B·R]
        truth, sids = targets[row], self.embedding.sids
        mixture = teacher.select(row).agreeing(sids, truth, masked.flatten(0, 1)).mixed(truth)
        soft_codes = mixture.codes(sids).permute(2, 0, 1).flatten(0, 1)  # [H·B·R, J]
        soft_shares = mixture.shares.repeat(self.digits, 1)
        return self.heads.loss(by_digit(states), soft_codes, by_digit(shares), counts, soft_shares)

    @torch.no_grad()
    def confidence(self, states: Tensor) -> Tensor:
        """Return the log-probability of each digit's likeliest code, [B, H], from the states [B, 1, H, D] of
        fully masked items.
        """
        logp: Tensor = self.heads(states.flatten(0, 1))
        return logp.amax(2)

    def views(self, confidence: Tensor) -> Tensor:
        """Return the masks of the R views, bool [B, R, H], which begin with the least confidence [B, H]."""
        return confidence.argsort(dim=1).argsort(dim=1)[:, None] < self.view_sizes[:, None]

    def encode(self, history: Tensor, real: Tensor) -> Memory:
        """Encode histories for the decoder.

        Args:
            history: int64 [B, n], −1 at padding.
            real: padding mask, bool [B, n], False at padding; on the host where a GPU must not be waited for.
        """
        layout = Layout.bidirectional(real, history.device)
        position = torch.arange(history.shape[1] - 1, -1, -1, device=history.device).expand_as(history)
        tokens = self.embedding.item_tokens(layout.pack(history))  # [M, H]
        x = self.embedding.pooled(tokens) + self.position(layout.pack(position))
        return self.decoder.prefill(
            self.encoder(x, layout, torch.arange(x.shape[0], device=x.device)), layout
        )

    def states(self, codes: Tensor, memory: Memory) -> Tensor:
        """Return the states of digits, [B, K, H, D], from codes [B, K, H], V where masked."""
        states: Tensor = self.decoder(self.embedding(self.embedding.tokens(codes)), memory)
        return states

    def denoiser(
        self, history: Tensor, users: Tensor | None = None, *, approximate: bool = False
    ) -> Denoiser:
        """Condition the model on histories; see `DigitModel.denoiser`."""
        memory = self.encode(history, history >= 0)

        def log_probs(codes: Tensor) -> Tensor:
            logp: Tensor = self.heads(self.states(codes, memory).flatten(0, 1))
            return logp.view(*codes.shape, self.codes)

        return IndependentDigits(log_probs)
