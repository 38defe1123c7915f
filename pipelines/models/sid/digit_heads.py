"""Heads of digits that are independent of each other given what is visible, as in the paper: a softmax over V
codes each.

Shapes: H digits per item, P tokens per item, V codes per digit, D width, R states, Q masked digits.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pipelines.models.denoiser import Denoiser, IndependentDigits
from pipelines.models.nn.packing import to_device
from pipelines.models.nn.precision import in_float32
from pipelines.models.objectives.losses import masked_digit_loss
from pipelines.models.objectives.soft_targets import SoftTargets
from pipelines.models.sid.embedding import SidEmbedding
from pipelines.models.sid.masked_batch import MaskedBatch


class DigitHeads(nn.Module):
    """A linear map from states to logits for each digit.

    The maps run in float32 in any precision: of bfloat16 logits many tie.
    """

    def __init__(self, digits: int, width: int, codes: int, smoothing: float = 0.0) -> None:
        """
        Args:
            digits: H.
            width: D.
            codes: V.
            smoothing: label smoothing, the share of a target that is spread over all codes (Szegedy et al.
                2016).
        """
        super().__init__()
        self.smoothing = smoothing
        self.weight = nn.Parameter(torch.randn(digits, width, codes) * width**-0.5)  # [H, D, V]

    def loss(
        self,
        states: Tensor,
        codes: Tensor,
        weights: Tensor,
        counts: list[int],
        shares: Tensor | None = None,
    ) -> Tensor:
        """Compute the weighted sum of the masked digits' cross-entropies, with one matrix product per digit.

        Args:
            states: [Q, D], those of the first digit first, then those of the second, and so on.
            codes: true codes, int64 [Q]; with soft targets, the codes of J items each, int64 [Q, J].
            weights: [Q].
            counts: number of states of each of the H digits.
            shares: shares of the J items in a soft target, float32 [Q, J]; None for true codes.

        Returns:
            A float32 scalar.
        """
        return masked_digit_loss(self.logits, states, codes, weights, counts, self.smoothing, shares)

    def logits(self, states: Tensor, digit: int) -> Tensor:
        """Return the logits of one digit, float32 [..., V], from states [..., D]."""
        with in_float32(states.device):
            return states.float() @ self.weight[digit]

    def forward(self, states: Tensor) -> Tensor:
        """Return log-probabilities of all digits, float32 [R, H, V], from the states of items [R, P, D]."""
        rows = states.expand(
            -1, len(self.weight), -1
        )  # [R, H, D]; the one state of an item token serves all its digits
        with in_float32(states.device):
            return torch.einsum("rhd,hdv->rhv", rows.float(), self.weight).log_softmax(-1)


class PerDigitObjective:
    """Masked digits are independent of each other given the visible ones, as in the paper (equation 3)."""

    def __init__(self, heads: DigitHeads, embedding: SidEmbedding) -> None:
        """
        Args:
            heads: of the model.
            embedding: of the model; it holds the semantic IDs.
        """
        self._heads, self._embedding = heads, embedding

    def weights_changed(self) -> None:
        """Do nothing: no result of earlier weights is kept."""

    def loss(self, hidden: Tensor, batch: MaskedBatch) -> Tensor:
        """Compute the weighted sum of the masked digits' cross-entropies (equation 3); see `Objective`."""
        H, P = batch.masked.shape[1], batch.tokens_per_item
        digit, item = batch.masked.T.nonzero(as_tuple=True)  # [Q] each, grouped by digit
        token = torch.searchsorted(batch.tokens, item * P + digit // (H // P))  # [Q], into M
        states = hidden.index_select(0, to_device(token, batch.device))
        weights = to_device(batch.weights[item, digit], batch.device)
        counts = batch.masked.sum(0).tolist()
        if batch.soft is not None:
            codes, shares = self._soft_codes(batch.soft, batch, digit, item)
            return self._heads.loss(states, codes, weights, counts, shares)
        truth = self._embedding.sids_of(batch.items_on_device).flatten()  # [B·n·H]
        codes = truth[to_device(item * H + digit, batch.device)]
        return self._heads.loss(states, codes, weights, counts)

    def _soft_codes(
        self, soft: SoftTargets, batch: MaskedBatch, digit: Tensor, item: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the codes of the items of soft targets, int64 [Q, J], and their shares, float32 [Q, J], for
        masked digits of items, int64 [Q] each. The other masked digits of an item are summed over.
        """
        rows = batch.masked.any(1).nonzero().squeeze(1)  # [R], items with a masked digit
        place = to_device(torch.searchsorted(rows, item), batch.device)  # [Q], into R
        truth = batch.items_on_device.flatten()[to_device(rows, batch.device)]
        sids, masked = self._embedding.sids, to_device(batch.masked[rows], batch.device)
        mixture = soft.of(rows, batch.device).agreeing(sids, truth, masked).mixed(truth)
        codes = mixture.codes(sids).permute(2, 0, 1)  # [H, R, J]
        return codes[to_device(digit, batch.device), place], mixture.shares[place]

    def denoiser(self, states: Callable[[Tensor], Tensor], history: Tensor) -> Denoiser:
        """Return the denoiser; see `Objective`."""
        H = self._embedding.digits

        def log_probs(codes: Tensor) -> Tensor:
            B, K, S = codes.shape
            hidden = states(codes)  # [B, K, k·P, D]
            rows = hidden.unflatten(2, (S // H, -1)).flatten(0, 2)  # [B·K·k, P, D]
            return self._heads(rows).view(B, K, S, -1)

        return IndependentDigits(log_probs)
