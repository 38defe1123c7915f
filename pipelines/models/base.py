"""The base classes of models. A model is one file in `item_models` or `sid_models`; docs/adding-a-model.md
shows how to add one.

Shapes: B users, n items of a history, k horizon, H digits per item, S = k·H digits, V codes per digit, N
items, D width."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from torch import Tensor, nn

from pipelines.data.catalogue import Catalogue
from pipelines.data.groups import Groups
from pipelines.models.config import ModelConfig
from pipelines.models.denoiser import Denoiser, DenseRetriever, ItemScores
from pipelines.models.nn.precision import in_float32
from pipelines.processes import Processes

if TYPE_CHECKING:
    from pipelines.models.sid.embedding import SidEmbedding


class Recommender(nn.Module):
    """A model of item histories.

    Histories are [B, n] item numbers in time order, padded on the left with −1. `forward` takes some rows of
    the arrays that `make_training_batch` returns, and computes the weighted sum of their losses, a float32
    scalar. Where the configuration says `learns_from_teachers`, it also takes `soft`, the soft targets of
    these items.

    Attributes:
        config: configuration of the model.
        items: N.
        retrievals: retrievals that the model supports (see `Decoding`), the default first.
        decoding_options: further fields of `Decoding` that the model supports, besides `beams` and
            `exclude_seen`.
        tokens_per_item: P, number of tokens of an item of a history.
        streams: number of times that a training sequence goes through the transformer.
        uses_user_ids: if true, `forward` takes user ids, int64 [B, 1], as its last argument.
        ranks_cold_items: if true, unified retrieval also ranks the items without a training interaction.
        scores_in_blocks: if true, one function evaluation scores some items of the catalogue at a time, so
            that the scores of all items need not fit into memory.
    """

    config: ModelConfig
    items: int
    retrievals: tuple[str, ...]
    decoding_options: frozenset[str] = frozenset()
    tokens_per_item: int = 1
    streams: int = 1
    uses_user_ids: bool = False
    ranks_cold_items: ClassVar[bool] = False
    scores_in_blocks: bool = False

    @property
    def candidate_bytes(self) -> int:
        """Bytes of the candidate index that training looks up, once it is complete; 0 without one."""
        return 0

    @property
    def validation_nfe(self) -> int | None:
        """Number of function evaluations of a validation; None for the default of decoding."""
        return None

    def start(self, catalogue: Catalogue) -> None:  # noqa: B027 - optional for a subclass
        """Set the parameters that training starts from, where they come from data."""

    def spread(self, weights: dict[str, Tensor], known: Tensor) -> dict[str, Tensor]:
        """Bring weights over a part of the items into shapes that `loading.place_weights` can place.

        By default they stay as they are. A model whose tensors have neither an entry for each item nor a
        fixed size makes room for them here.

        Args:
            weights: tensors by name, over N' of the items; they may be another model's.
            known: the N' items, int64 [N'], ascending.
        """
        return weights

    def start_items(self, items: Tensor) -> None:  # noqa: B027 - optional for a subclass
        """Set the parameters of items, int64 [items], that a model's weights are loaded without.

        By default they stay as they are in a new model.
        """

    def rank_new_items(self, items: Tensor, text: np.ndarray | None) -> None:  # noqa: B027 - optional
        """Prepare the ranking of items that the model was not trained on.

        By default nothing is done: a model over semantic IDs scores every item by its codes.

        Args:
            items: int64 [items], ascending.
            text: text embeddings of all items, float32 [N, E]; None if there are none.
        """

    @abstractmethod
    def history_vectors(self) -> Tensor:
        """Return the vectors with which items enter the model in a history, [N, D]; the texts that some
        models add are left out.
        """

    @abstractmethod
    def make_training_batch(
        self, items: np.ndarray, rng: np.random.Generator, horizon: int = 1
    ) -> tuple[np.ndarray, ...]:
        """Draw what one whole optimizer step trains on, on the host.

        Args:
            items: int [B, n], −1 at padding; n is at most `config.window`. A model over semantic IDs moves
                items and leaves some out, but looks at none: with teachers, they are indices into the batch.
            rng: source of randomness.
            horizon: k.

        Returns:
            The arguments of `forward`, [B, n, …] each: the items; the loss weights of the targets, whose sum
            over the whole step divides the loss; and further arrays of the model. The training loop cuts rows
            and leading columns of padding alike.
        """


@dataclass(frozen=True)
class Sampling:
    """Settings of models that generate by a reverse process.

    Attributes:
        nfe: number of function evaluations; None for all steps.
        guidance: weight w of classifier-free guidance.
        seed: seed of the noise.
    """

    nfe: int | None = None
    guidance: float = 0.0
    seed: int = 0


class ItemRanker(Recommender):
    """A model that scores every item of the catalogue."""

    retrievals: tuple[str, ...] = ("ranking",)

    @abstractmethod
    def scores(self, history: Tensor, users: Tensor, sampling: Sampling = Sampling()) -> Tensor:
        """Score all items.

        Args:
            history: int64 [B, n], −1 at padding.
            users: user ids, int64 [B]; they seed what is random, so that it does not depend on the batch.
            sampling: settings of a reverse process; without effect in models that have none.

        Returns:
            float32 [B, N], larger is better.
        """

    def scores_within(self, sequences: Tensor) -> ItemScores | None:
        """Score all items as the next one at many places of sequences, in one pass.

        Args:
            sequences: int64 [B, n], −1 at padding on the left, on the host.

        Returns:
            Scores of R rows, one for each item that has an item before it, sequence after sequence; each from
            the items before it. None if the model needs a pass for each history.
        """
        return None


class CountedModel(ItemRanker):
    """A model that is fitted by counting, in one pass over the training sequences. The pass is its one step.

    Its parameters have no gradients, so that it draws no training batches and has no `forward`.
    """

    @abstractmethod
    def count(self, sequences: Groups, processes: Processes) -> None:
        """Set the parameters.

        Args:
            sequences: training sequences, in groups that are read one at a time.
            processes: processes that share the work; each gets the whole.
        """

    def make_training_batch(
        self, items: np.ndarray, rng: np.random.Generator, horizon: int = 1
    ) -> tuple[np.ndarray, ...]:
        raise NotImplementedError("a counted model draws no training batches")


class DigitModel(Recommender):
    """A model of the digits of the next items, decoded by beam search.

    Attributes:
        digits: H.
        codes: V.
        embedding: embedding of the digits; it holds the semantic IDs.
        orders: orders in which the model can unmask digits, the default first.
        encodes_once: if true, a history is encoded once for all its beams.
        uses_item_softmax: if true, decoding looks at the whole catalogue (see `sid.item_softmax`).
        scores_items: if true, one function evaluation gives probabilities to all items.
        dense_weight: weight of the dense score in unified retrieval where the decoding leaves it open.
    """

    digits: int
    codes: int
    embedding: SidEmbedding
    retrievals: tuple[str, ...] = ("generative",)
    orders: tuple[str, ...] = ("greedy", "left-to-right", "random", "confidence")
    decoding_options = frozenset(
        {"unmask", "nfe", "unmask_counts", "constrained", "nearest", "remask", "seed"}
    )
    encodes_once: bool = True
    scores_in_blocks: bool = True
    uses_item_softmax: bool = False
    scores_items: ClassVar[bool] = True
    dense_weight: float = 1.0

    @property
    def dense_retriever(self) -> DenseRetriever | None:
        """The model itself if it predicts text embeddings, else None."""
        return None

    @abstractmethod
    def denoiser(
        self, history: Tensor, users: Tensor | None = None, *, approximate: bool = False
    ) -> Denoiser:
        """Condition the model on histories.

        Args:
            history: int64 [B, n], −1 at padding.
            users: user ids, int64 [B]; needed where `uses_user_ids`.
            approximate: encode histories once although the model has full attention.
        """

    def denoiser_within(self, sequences: Tensor) -> Denoiser | None:
        """Condition the model on many histories with one pass: on the items before each item of sequences.

        Args:
            sequences: as for `ItemRanker.scores_within`.

        Returns:
            Denoiser of the R histories in the order of `ItemRanker.scores_within`, for one function
            evaluation with all digits masked (K = k = 1). None if the model needs a pass for each history.
        """
        return None


def products(states: Tensor, vectors: Tensor) -> Tensor:
    """Return the dot products of states [B, D] with item vectors [N, D], float32 [B, N], in any precision
    around.

    bfloat16 keeps two to three decimal digits, so that many items of a ranking would tie.
    """
    with in_float32(states.device):
        return states.float() @ vectors.float().T


def ignore_buffers(model: nn.Module) -> None:
    """Exempt the buffers of a model, which are the same data in all processes, from the broadcasts of
    distributed training.
    """
    model.__dict__["_ddp_params_and_buffers_to_ignore"] = [name for name, _ in model.named_buffers()]
