"""DiffGRM: an encoder of histories and a masked-diffusion decoder of the next item's digits (Liu et al. 2025, arXiv 2510.21805).

The encoder reads items, each the sum of its digits' embeddings, and each sees all. The decoder reads the H digits of the next item, some
of them masked; they see each other in both directions and look at the encoder's states, so a history is encoded once. Its three parts:

- Parallel semantic encoding: digits that say different things of an item (OPQ) instead of refining each other. That is the business of
  the semantic IDs (`maskgr tokenize`); the model takes any.
- On-policy coherent noising. The fully masked item shows how sure the model is of each digit (the probability of its likeliest code).
  R views of the example then mask the 1, 2, … digits that it is least sure of, each set within the next: training goes to the digits
  that are hard now, and not to all 2^H − 1 sets. A view's loss is the mean over its masked digits, an example's the mean over its views.
- Confidence-guided parallel denoising: `--unmask confidence`, see `decode.beam`. The other orders work too.

Written from the abstract and from accounts of the paper, which leave these open: items bring an embedding of their place, counted from
the last; the fully masked view, which the last of the views is anyway, is what the ranking is taken from, so that there is no further
pass for it; with fewer views than digits their sizes are as even as can be and the last is whole, which is where decoding begins; digits
have heads of their own.

Shapes: B examples or users, n items of a history, K beams or views, R views, H digits an item, V codes, N items, D width, A heads.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.data.catalogue import Catalogue
from pipelines.models.base import DigitModel
from pipelines.models.nn.decoder import Decoder, Memory
from pipelines.models.nn.packing import Layout, to_device
from pipelines.models.nn.precision import narrow_in_float32
from pipelines.models.nn.transformer import Encoder
from pipelines.models.sid.digit_heads import DigitHeads
from pipelines.models.sid.item_softmax import Denoiser
from pipelines.models.sid_models.config import DiffGRMConfig


class MaskedDigitDecoder(Decoder):
    """A decoder of the digits of an item, which see each other in both directions."""

    @narrow_in_float32
    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        """States [B, K, H, D] of embedded digits [B, K, H, D]: each sees those of its row, and the history that K rows share."""
        shape = x.shape
        layout = Layout.whole(shape[0] * shape[1], shape[2], x.device)
        position = self._rotary(layout.position, x)
        x = self.dropout(x).flatten(0, 2)
        for block, shown in zip(self.blocks, memory.memory_kv, strict=True):
            x = block.attend(x, layout, position)[0].view(shape[0], -1, shape[3])
            x = block.transform(block.cross_attend(x, shown, memory.mask)).flatten(0, 1)
        return self.norm(x).view(shape)


class DiffGRM(DigitModel):
    """Masked diffusion over the digits of the next item alone."""

    orders = ("confidence", "greedy", "left-to-right", "random")

    def __init__(self, config: DiffGRMConfig, catalogue: Catalogue) -> None:
        super().__init__()
        self.config, self.items, self.codes = config, catalogue.items, catalogue.codes
        self.digits = self.tokens_per_item = H = catalogue.sids.shape[
            1
        ]  # the decoder's tokens, which cost more than the encoder's
        digits = torch.arange(H)
        self.register_buffer(
            "offsets", digits * self.codes, persistent=False
        )  # code c of digit h is number h·V + c
        self.register_buffer("masks", H * self.codes + digits, persistent=False)  # a MASK for each digit
        self.register_buffer(
            "sids", torch.as_tensor(catalogue.sids, dtype=torch.int64), persistent=False
        )  # [N, H]
        self.embedding = nn.Embedding(H * (self.codes + 1), config.width)
        self.place = nn.Embedding(config.max_items, config.width)  # 0 is the last of a history
        for table in (self.embedding, self.place):
            nn.init.normal_(table.weight, std=config.width**-0.5)
        self.encoder = Encoder(config)
        self.decoder = MaskedDigitDecoder(dataclasses.replace(config, layers=config.decoder_layers))
        self.heads = DigitHeads(H, config.width, self.codes, config.label_smoothing)
        views = min(config.views or H, H)
        self.register_buffer(
            "sizes", torch.tensor([-(-H * r // views) for r in range(1, views + 1)]), persistent=False
        )  # [R]
        self._ddp_params_and_buffers_to_ignore = [
            name for name, _ in self.named_buffers()
        ]  # the same data in all processes

    def make_training_batch(
        self, items: np.ndarray, rng: np.random.Generator, horizon: int = 1
    ) -> tuple[np.ndarray, ...]:
        """The items [B, n], 1 for the last of them [B, n]; with `--noising random` also what ranks its digits, [B, n, H]."""
        weights = np.zeros(items.shape, np.float32)
        weights[:, -1] = 1.0
        if self.config.noising == "on-policy":
            return items, weights
        return items, weights, rng.random((*items.shape, self.digits), dtype=np.float32)

    def forward(self, items: np.ndarray, weights: np.ndarray, ranks: np.ndarray | None = None) -> Tensor:
        """Weighted sum of the mean losses of the views of each example; arguments as `make_training_batch` made them."""
        device, R = self.sids.device, len(self.sizes)
        history, targets = (
            torch.as_tensor(items[:, :-1]),
            to_device(torch.as_tensor(items[:, -1]), device).long(),
        )
        memory, codes = (
            self.encode(to_device(history, device).long(), history >= 0),
            self.sids[targets],
        )  # [B, H]
        whole = self.states(torch.full_like(codes, self.codes)[:, None], memory)  # [B, 1, H, D]
        sure = self.confidence(whole) if ranks is None else to_device(torch.as_tensor(ranks[:, -1]), device)
        masked = self.views(sure)  # [B, R, H]
        states = self.states(
            codes[:, None].masked_fill(masked[:, :-1], self.codes), memory
        )  # [B, R − 1, H, D]
        states = torch.cat((states, whole), dim=1)
        counted = (
            masked
            / (R * masked.sum(2, keepdim=True))
            * to_device(torch.as_tensor(weights[:, -1]), device)[:, None, None]
        )
        by_digit = (
            part.flatten(0, 1).transpose(0, 1).flatten(0, 1)
            for part in (states, codes[:, None].expand(-1, R, -1), counted)
        )
        return self.heads.loss(*by_digit, [len(codes) * R] * self.digits)

    @torch.no_grad()
    def confidence(self, states: Tensor) -> Tensor:
        """The log-probability of each digit's likeliest code, [B, H], given the states [B, 1, H, D] of fully masked items."""
        return self.heads(states.flatten(0, 1)).amax(2)

    def views(self, sure: Tensor) -> Tensor:
        """Which digits the R views mask, bool [B, R, H]: `sizes` of those that the model is least `sure` of, [B, H]."""
        return sure.argsort(dim=1).argsort(dim=1)[:, None] < self.sizes[:, None]

    def encode(self, history: Tensor, real: Tensor) -> Memory:
        """What the decoder sees of histories.

        Args:
            history: int64 [B, n], −1 at padding.
            real: bool [B, n], where there is no padding; on the host where a GPU shall not be waited for.
        """
        layout = Layout.of(real, history.device)
        place = torch.arange(history.shape[1] - 1, -1, -1, device=history.device).expand_as(history)
        digits = self.sids[layout.pack(history)] + self.offsets  # [T, H]
        x = F.embedding_bag(digits, self.embedding.weight, mode="sum") + self.place(layout.pack(place))
        return self.decoder.prefill(self.encoder(x, layout, torch.arange(len(x), device=x.device)), layout)

    def states(self, codes: Tensor, memory: Memory) -> Tensor:
        """The states [B, K, H, D] of digits, given as codes [B, K, H], V where masked."""
        return self.decoder(
            self.embedding(torch.where(codes == self.codes, self.masks, codes + self.offsets)), memory
        )

    def denoiser(self, history: Tensor) -> Denoiser:
        memory = self.encode(history, history >= 0)
        return lambda codes: self.heads(self.states(codes, memory).flatten(0, 1)).view(
            *codes.shape, self.codes
        )
