"""Search for the best items of a batch of users, by the retrieval of the decoding.

Shapes: B users, n items of a history, K beams, k horizon, N items that qualify, X pairs of a user and an
item."""

from __future__ import annotations

import dataclasses

import numpy as np
from torch import Tensor

from pipelines.data.eligible import Eligible
from pipelines.decode.beam import Beams, beam_search, rank_items
from pipelines.decode.config import CONFIDENCE, Decoding
from pipelines.decode.dense import dense_search, rerank
from pipelines.decode.sid_index import SidIndex
from pipelines.models.base import DigitModel, ItemRanker, Recommender, Sampling
from pipelines.models.denoiser import Denoiser, ItemScores

Pairs = tuple[Tensor, Tensor]  # positions in the batch, int64 [X]; items, int64 [X]


class Search:
    """The search of one model with one decoding among the items that qualify.

    A constrained search returns K items to every user for whom K qualify: constrained beams hold different
    items, and each reaches one that qualifies. Only where beams may meet (digits that compete, remasking) the
    search is repeated with more beams for users who got fewer.
    """

    def __init__(
        self,
        model: Recommender,
        index: SidIndex | None,
        decoding: Decoding,
        items: np.ndarray | None = None,
        horizon: int = 1,
        warm_items: np.ndarray | None = None,
    ) -> None:
        """
        Args:
            model: in evaluation mode, on its device.
            index: partial semantic IDs of `items`; None for a model that ranks items.
            decoding: resolved for the model.
            items: numbers of the items that qualify, ascending; None for the whole catalogue.
            horizon: k.
            warm_items: items with a training interaction, ascending; None if they are not known.
        """
        self._model, self._index, self._decoding, self._horizon = model, index, decoding, horizon
        device = next(model.parameters()).device
        self._eligible = Eligible.of(model.items, items).to(device)
        self._cold: Eligible | None = None
        if model.ranks_cold_items and decoding.retrieval == "unified" and warm_items is not None:
            everything = np.arange(model.items) if items is None else items
            cold = Eligible.of(model.items, np.setdiff1d(everything, warm_items))
            self._cold = cold.to(device) if len(cold) else None

    def __call__(self, history: Tensor, users: Tensor, excluded: Pairs | None = None) -> Beams:
        """Return the best items of a batch of users.

        Args:
            history: int64 [B, n], −1 at padding.
            users: user ids, int64 [B].
            excluded: pairs of a position in the batch and an item that the user must not get.
        """
        model, decoding = self._model, self._decoding
        if isinstance(model, ItemRanker):
            eligible = self._among(excluded)
            sampling = Sampling(decoding.nfe, decoding.guidance, decoding.seed)
            scores = model.scores(history, users, sampling)
            of_items = ItemScores(lambda items: scores[:, items], are_logits=False)
            return rank_items(of_items, len(users), eligible, decoding.beams, model.items)
        assert isinstance(model, DigitModel), "a model ranks items or has digits"
        dense = model.dense_retriever
        if dense and decoding.retrieval == "dense":
            query = dense.dense_query(history, users)
            return dense_search(query, dense.text, self._among(excluded), decoding.beams)
        beams = self._beams(model, history, users, excluded)
        if dense and decoding.retrieval == "unified":
            cold = self._cold.without(*excluded) if self._cold and excluded else self._cold
            weight = 1.0 if decoding.dense_weight is None else decoding.dense_weight
            return rerank(beams, dense.dense_query(history, users), dense.text, weight, cold)
        return beams

    def _among(self, excluded: Pairs | None) -> Eligible:
        """Return the items that qualify, without those that are excluded for single users."""
        return self._eligible.without(*excluded) if excluded else self._eligible

    def _beams(self, model: DigitModel, history: Tensor, users: Tensor, excluded: Pairs | None) -> Beams:
        """Search for beams of the model's digits."""
        assert self._index, "beam search needs an index of the catalogue"
        decoding, K = self._decoding, self._decoding.beams
        index = self._index.excluding(*excluded) if excluded else self._index
        denoiser = self._denoiser(model, history, users)
        beams = beam_search(denoiser, users, index, decoding, self._horizon)
        if not decoding.constrained or not (decoding.remask or decoding.order == CONFIDENCE):
            return beams
        eligible = index.eligible
        wanted = eligible.counts(len(users)).to(users.device).clamp(max=K)  # [B]
        while (short := beams.scores.isfinite().sum(1) < wanted).any() and decoding.beams < len(eligible):
            decoding = dataclasses.replace(decoding, beams=2 * decoding.beams)
            wider = beam_search(denoiser, users, index, decoding, self._horizon).first(K)
            beams = Beams.where(short, wider, beams)
        return beams

    def _denoiser(self, model: DigitModel, history: Tensor, users: Tensor) -> Denoiser:
        approximate, guidance = self._decoding.approximate, self._decoding.guidance
        denoiser = model.denoiser(history, users, approximate=approximate)
        if not guidance:
            return denoiser
        return denoiser.guided(model.denoiser(history[:, :0], users, approximate=approximate), guidance)
