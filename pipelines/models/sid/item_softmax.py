"""The item softmax: the masked digits of an item have one joint distribution, over the items that agree with
the visible digits.

The denoiser of the paper takes masked digits as independent, each with a softmax over its V codes. Most of
the probability then lies on semantic IDs that no item has, and the network must learn what ties an item's
digits together. With the item softmax a state z gives every item i the logit z · w_i, and the items that
agree with the visible digits share all probability:

    p(i | z, visible digits) = exp(z · w_i) / Σ_j exp(z · w_j), over the items j that agree.

w_i is the sum of the item's digit embeddings, so that the logit is a sum of digit logits, plus the item's
other embeddings. The probability of a code is a sum over items, in any order of unmasking. With all digits
masked the distribution is a softmax over the catalogue.

Shapes: B users, K beams, k items predicted together, H digits per item, S = k·H digits, V codes per digit, N
items, D width, R states, Q pairs of a state and an item."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor, nn

from pipelines.data.candidates import CandidateIndex
from pipelines.data.windows import candidate_index
from pipelines.models.denoiser import Denoiser, ItemScores
from pipelines.models.nn.packing import to_device
from pipelines.models.objectives.repeat_bias import RepeatBias
from pipelines.models.sid.embedding import SidEmbedding
from pipelines.models.sid.item_denoiser import ItemDenoiser
from pipelines.models.sid.item_softmax_loss import ItemTargets, item_softmax_loss, sampled_item_softmax_loss
from pipelines.models.sid.masked_batch import MaskedBatch
from pipelines.models.sid.new_items import NewItems
from pipelines.models.sid.output_vectors import OutputVectors

CELLS = 1 << 24  # logits held at once
DENSE = 16  # the logits of all items are computed where one item in so many agrees


class HasItemVectors(Protocol):
    """The model that an item softmax belongs to.

    Attributes:
        embedding: embedding of the digits; it holds the semantic IDs.
        repeat_bias: scale of the repeat bias, float32 [1]; None if there is no bias.
        new_items: items that the model was not trained on; None if there are none.
    """

    embedding: SidEmbedding
    repeat_bias: nn.Parameter | None
    new_items: NewItems | None

    def item_vectors(self, items: Tensor | None = None) -> Tensor:
        """Return w of items [Q], or of all items: [Q, D] or [N, D]."""
        ...

    def output_vectors(self) -> OutputVectors:
        """Return w of all items, in its parts."""
        ...


class ItemSoftmaxObjective:
    """Objective of the item softmax; a token is an item."""

    def __init__(self, model: HasItemVectors, negatives: int, smoothing: float) -> None:
        """
        Args:
            model: the model.
            negatives: number of items that a fully masked item is compared with in training; 0 for the whole
                catalogue.
            smoothing: label smoothing of fully masked items.
        """
        self._model, self._negatives, self._smoothing = model, negatives, smoothing
        self._vectors: OutputVectors | None = None  # while the weights stay as they are

    @cached_property
    def _candidates(self) -> CandidateIndex:
        return candidate_index(self._model.embedding.sids, self._model.embedding.codes)

    def weights_changed(self) -> None:
        """Forget the item vectors that were computed from earlier weights."""
        self._vectors = None

    def loss(self, hidden: Tensor, batch: MaskedBatch) -> Tensor:
        """Compute the weighted sum of −log p(item); an item weighs what its digits weigh together. See
        `Objective`.
        """
        tokens, n, model = batch.tokens, batch.items.shape[1], self._model
        targets = ItemTargets(
            batch.items_on_device.flatten()[to_device(tokens, batch.device)],
            batch.masked[tokens],
            to_device(batch.weights[tokens].sum(1), batch.device),
            None if batch.soft is None else batch.soft.of(tokens, batch.device),
        )
        repeat_bias = None
        if model.repeat_bias is not None:
            repeat_bias = RepeatBias.of_places(
                batch.items, tokens // n, tokens % n, model.repeat_bias, batch.device
            )
        if self._negatives:
            return sampled_item_softmax_loss(
                *(hidden, model.item_vectors, self._candidates, targets),
                negatives=self._negatives,
                smoothing=self._smoothing,
                repeat_bias=repeat_bias,
            )
        return item_softmax_loss(
            *(hidden, model.item_vectors(), model.embedding.sids, targets),
            smoothing=self._smoothing,
            repeat_bias=repeat_bias,
        )

    def denoiser(self, states: Callable[[Tensor], Tensor], history: Tensor) -> Denoiser:
        """Return the denoiser; see `Objective`."""
        if self._vectors is None:
            self._vectors = self._model.output_vectors()
        repeat_bias = RepeatBias.of(history, self._model.repeat_bias)
        return ItemSoftmax(states, self._vectors, self._candidates, repeat_bias, self._model.new_items)


class ItemSoftmax(ItemDenoiser):
    """Denoiser of the item softmax."""

    def __init__(
        self,
        states: Callable[[Tensor], Tensor],
        vectors: OutputVectors,
        candidates: CandidateIndex,
        repeat_bias: RepeatBias | None = None,
        new_items: NewItems | None = None,
    ) -> None:
        """
        Args:
            states: the transformer: codes [B, K, S] → states [B, K, k, D].
            vectors: w.
            candidates: candidate index of the catalogue.
            repeat_bias: of the users' histories [B, n].
            new_items: items that the model was not trained on.
        """
        super().__init__(candidates)
        self.states, self.vectors = states, vectors
        self._new_items, self._repeat_bias = new_items, repeat_bias

    def evaluate(self, codes: Tensor) -> Tensor:
        """Run the transformer: codes [B, K, S] → states, float32 [B, K, k, D]."""
        return self.states(codes).float()

    def score_items(self, codes: Tensor, sids: Tensor) -> ItemScores:
        """Score items in one function evaluation; see `Denoiser`."""
        states = self.evaluate(codes).flatten(0, 2)  # [B, D]
        return ItemScores(self._logits(states, self._repeat_bias), are_logits=True)

    def guided(self, unconditional: ItemSoftmax, weight: float) -> ItemSoftmax:
        """See `Denoiser`: logits are linear in the states and in the repeat bias, which is 0 for the empty
        histories, so both are extrapolated alike.
        """

        def states(codes: Tensor) -> Tensor:
            return (1 + weight) * self.states(codes) - weight * unconditional.states(codes)

        bias = self._repeat_bias
        scaled = RepeatBias(bias.history, (1 + weight) * bias.scale) if bias else None
        return ItemSoftmax(states, self.vectors, self.candidates, scaled, self._new_items)

    def _logits(self, states: Tensor, repeat_bias: RepeatBias | None) -> Callable[[slice | Tensor], Tensor]:
        """Return a function that computes logits.

        Args:
            states: float32 [R, D].
            repeat_bias: of the states.

        Returns:
            A function from a slice of the items, or their numbers in ascending order, to float32 [R, items].
        """
        products, new_items = self.vectors.products(states), self._new_items

        def of_digits(items: slice | Tensor) -> Tensor:
            logits = products(items)
            return logits if repeat_bias is None else repeat_bias.add_to_part(logits, items)

        if new_items is None:
            return of_digits
        return lambda items: new_items.correct(of_digits(items), items, of_digits)

    def logits_of(self, states: Tensor, row: Tensor, item: Tensor) -> Tensor:
        """Return the logits of pairs of state and item, [Q].

        States that many items agree with take them from the logits of all items, a few states at a time; the
        others compute them pair by pair."""
        N, R = len(self.vectors), len(states)
        many = torch.bincount(row, minlength=R) * DENSE > N
        parts = many.nonzero().squeeze(1).split(max(1, CELLS // N)) if many.any() else ()
        logits, place = states.new_empty(len(row)), row.new_full((R,), -1)
        for part in parts:
            tabulated = self._logits(states[part], self._bias_of(R, part))(slice(None))  # [part, N]
            if len(part) == R:
                return tabulated[row, item]
            place.fill_(-1)[part] = torch.arange(len(part), device=part.device)
            chosen = (place[row] >= 0).nonzero().squeeze(1)
            logits[chosen] = tabulated[place[row[chosen]], item[chosen]]
        few = (~many[row]).nonzero().squeeze(1)
        logits[few] = self._paired(states, row[few], item[few])
        return logits

    def _bias_of(self, R: int, rows: Tensor) -> RepeatBias | None:
        """Return the repeat bias of some of R states, int64 [rows]."""
        bias = self._repeat_bias
        return bias and bias.select(rows // (R // len(bias.history)))

    def _paired(self, states: Tensor, row: Tensor, item: Tensor) -> Tensor:
        """Return the logits of pairs of state and item, computed pair by pair, [Q]."""

        def of_digits(rows: Tensor, items: Tensor) -> Tensor:
            logits, bias = self.vectors.paired_products(states, rows, items), self._repeat_bias
            if bias is None:
                return logits
            users = rows // (len(states) // len(bias.history))
            return logits + bias.of_pairs(users, items, len(self.vectors))

        logits, new_items = of_digits(row, item), self._new_items
        return logits if new_items is None else new_items.correct_pairs(logits, row, item, of_digits)
