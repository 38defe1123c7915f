"""What training and evaluation ask of a model. A model is a file beside this one that fills one of the two kinds in.

Shapes: B users, K beams, n items of a history, S digits in all, H digits per item, V codes, N items.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import numpy as np
from torch import Tensor, nn

from pipelines.data.catalogue import Catalogue
from pipelines.models.config import ModelConfig
from pipelines.models.nn.precision import in_float32
from pipelines.models.sid.item_softmax import Denoiser


class Recommender(nn.Module):
    """A model over item histories.

    Histories are [B, n] item numbers in time order, padded on the left with −1.

    Attributes:
        config: sizes.
        retrievals: ways of retrieval that it knows (see `Decoding`), the usual one first.
        decoded_by: the other settings of `Decoding` that mean something to it, besides `beams` and `exclude_seen`.
        tokens_per_item: P, tokens that an item of a history becomes.
        items: N.
        streams: times that a training sequence goes through the transformer.
        knows_users: whether `forward` is told whose sequences it sees, last of all as int64 [B, 1], and `DigitModel.denoiser` as
            `users`, int64 [B].
        joins_cold: whether unified retrieval also ranks the items that nobody took in training.
    """

    config: ModelConfig
    items: int
    retrievals: tuple[str, ...]
    decoding_options: ClassVar[frozenset[str]] = frozenset()
    tokens_per_item: int = 1
    streams: int = 1
    uses_user_ids: bool = False
    ranks_cold_items: ClassVar[bool] = False

    @property
    def validation_nfe(self) -> int | None:
        """Evaluations that a validation takes, where fewer than by default do."""
        return None

    def start(self, catalogue: Catalogue) -> None:  # noqa: B027 most start from what they are built with
        """Take the values from which training starts, where they come from data."""

    @abstractmethod
    def make_training_batch(
        self, items: np.ndarray, rng: np.random.Generator, horizon: int = 1
    ) -> tuple[np.ndarray, ...]:
        """What one whole optimiser step trains on, drawn on the host.

        Args:
            items: [B, n], −1 at padding; n is at most `config.window`.
            ahead: items k that are recommended at a time.

        Returns:
            What `forward` takes, [B, n, …] each: the items, what each target counts (the loss is divided by the sum over
            the whole step), and what else the model wants. Rows and leading columns of padding are cut alike.
        """

    @abstractmethod
    def forward(self, items: np.ndarray, weights: np.ndarray, *more: np.ndarray) -> Tensor:
        """Weighted sum of the losses of some rows of what `make_training_batch` drew."""


class ItemRanker(Recommender):
    """A model that gives every item of the catalogue a score."""

    retrievals = ("ranking",)

    @abstractmethod
    def scores(self, history: Tensor, users: Tensor, **decoding: object) -> Tensor:
        """Scores of all items, float32 [B, N], the larger the better.

        Args:
            history: int64 [B, n].
            users: int64 [B], to seed what is drawn at random, so that it does not depend on the batch.
            **decoding: the settings in `decoding_options`.
        """


def products(states: Tensor, vectors: Tensor) -> Tensor:
    """Dot products of states [B, D] with the vectors of items [N, D], in float32 whatever the precision: [B, N].

    In bfloat16 two of three digits are lost, and many items of a ranking tie.
    """
    with in_float32(states.device):
        return states.float() @ vectors.float().T


class DigitModel(Recommender):
    """A model that gives the digits of the next items probabilities, for beam search.

    Attributes:
        digits: H.
        codes: V.
        orders: in which it can reveal digits, the usual one first.
        encodes_once: whether a history is encoded once for all its beams.
        joint: whether an item's digits are taken together (`joint.ItemSoftmax`), so that the whole catalogue is looked at.
    """

    digits: int
    codes: int
    retrievals = ("generative",)
    orders: ClassVar[tuple[str, ...]] = ("greedy", "left-to-right", "random", "confidence")
    decoding_options = frozenset(
        {"unmask", "nfe", "unmask_counts", "constrained", "nearest", "remask", "seed"}
    )
    encodes_once: bool = True
    joint: bool = False

    @abstractmethod
    def denoiser(self, history: Tensor) -> Denoiser:
        """What the decoder asks: codes [B, K, S], V where masked → float32 log-probabilities [B, K, S, V], given histories [B, n].

        S is H digits for each item that comes next. At revealed digits the log-probabilities mean nothing.
        """
