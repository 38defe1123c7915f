"""Committees: models whose distribution over the catalogue is the geometric mean of their members'.

Members may differ in everything but the catalogue: in seed, sizes, semantic IDs, text embeddings and kind of
model. A committee with members that have digits has digits too, those of the first of them. They are decoded
from the one distribution over items: the probability of a code is the sum over the items that agree. A
committee of models over item numbers scores items.

Shapes: B users, n items of a history, N items of the catalogue, D width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, NoReturn, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.data.candidates import CandidateIndex
from pipelines.data.windows import candidate_index
from pipelines.models.base import DigitModel, ItemRanker, Recommender, Sampling
from pipelines.models.config import ModelConfig
from pipelines.models.denoiser import Denoiser, ItemScores
from pipelines.models.distribution import distribution_after, geometric_mean
from pipelines.models.sid.item_denoiser import FixedItems


@dataclass(frozen=True)
class CommitteeConfig(ModelConfig):
    """What describes a committee; `max_items` is that of the member that sees the most.

    Attributes:
        weights: weights of the members, with sum 1.
        by_codes: if true, all members have semantic IDs.
    """

    name: ClassVar[str] = "committee"

    weights: tuple[float, ...] = ()
    by_codes: bool = False

    @property
    def needs(self) -> tuple[str, ...]:
        return ("sids",) if self.by_codes else ()

    @property
    def traits(self) -> tuple[str, ...]:
        return (f"geometric mean of {len(self.weights)} runs",)


class Committee(Recommender):
    """The members of a committee, and what does not depend on whether there are digits.

    Attributes:
        members: the models, as modules.
        weights: weights of the members, with sum 1.
        lead: number of the member whose digits the committee has; 0 without digits.
    """

    def __init__(self, members: Sequence[Recommender], weights: Sequence[float]) -> None:
        """
        Args:
            members: models over the same items, each with a distribution (`has_distribution`).
            weights: weights of the members, at least 0, with a sum above 0.
        """
        super().__init__()
        self.members = nn.ModuleList(members)
        self.weights = tuple(weight / sum(weights) for weight in weights)
        self.lead = next((n for n, member in enumerate(members) if isinstance(member, DigitModel)), 0)
        self.items = members[0].items
        self.tokens_per_item = max(member.tokens_per_item for member in members)
        self.scores_in_blocks = all(member.scores_in_blocks for member in members)
        self.config = CommitteeConfig(
            max_items=max(member.config.max_items for member in members),
            weights=self.weights,
            by_codes=all("sids" in member.config.needs for member in members),
        )

    @property
    def models(self) -> list[Recommender]:
        """The members, as models."""
        return cast("list[Recommender]", list(self.members))

    def member_scores(self, history: Tensor, users: Tensor) -> list[ItemScores]:
        """Return the distributions of the members, each after the items of the histories that it sees; see
        `distribution_after`.
        """
        return [
            distribution_after(member, history[:, -member.config.max_items :], users)
            for member in self.models
        ]

    def distribution(self, history: Tensor, users: Tensor) -> ItemScores:
        """Return the distribution of the item that follows each history; see `distribution_after`."""
        return geometric_mean(self.member_scores(history, users), self.weights)

    def spread(self, weights: dict[str, Tensor], known: Tensor) -> dict[str, Tensor]:
        """Let each member spread its own weights; see `Recommender.spread`."""
        result = dict(weights)
        for n, member in enumerate(self.models):
            prefix = f"members.{n}."
            own = {
                key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)
            }
            result |= {prefix + key: value for key, value in member.spread(own, known).items()}
        return result

    def start_items(self, items: Tensor) -> None:
        for member in self.models:
            member.start_items(items)

    def history_vectors(self) -> Tensor:
        """Return vectors whose cosines are the weighted means of those of the members' vectors."""
        parts = [
            weight**0.5 * F.normalize(member.history_vectors().float(), dim=1)
            for member, weight in zip(self.models, self.weights, strict=True)
        ]
        return torch.cat(parts, dim=1)

    def make_training_batch(self, items: np.ndarray, rng: np.random.Generator, horizon: int = 1) -> NoReturn:
        raise NotImplementedError("a committee is not trained, its members are")


class ItemCommittee(Committee, ItemRanker):
    """A committee without digits."""

    def scores(self, history: Tensor, users: Tensor, sampling: Sampling = Sampling()) -> Tensor:
        """Return the log-probabilities of all items, float32 [B, N]; see `ItemRanker.scores`."""
        return self.distribution(history, users).of(slice(None)).log_softmax(1)


class DigitCommittee(Committee, DigitModel):
    """A committee with digits: those of its member `lead`."""

    uses_item_softmax = True  # the digits of an item have one distribution, over the items that agree
    decoding_options = DigitModel.decoding_options - {"constrained", "nearest"}

    def __init__(self, members: Sequence[Recommender], weights: Sequence[float]) -> None:
        """See `Committee`; one of the members has digits."""
        super().__init__(members, weights)
        lead = members[self.lead]
        assert isinstance(lead, DigitModel), "a member has digits"
        self.digits, self.codes = lead.digits, lead.codes
        self.__dict__["embedding"] = lead.embedding  # whose parameters are those of the member

    @cached_property
    def _candidates(self) -> CandidateIndex:
        return candidate_index(self.embedding.sids, self.codes)

    def denoiser(
        self, history: Tensor, users: Tensor | None = None, *, approximate: bool = False
    ) -> Denoiser:
        """Return the denoiser of the members' mean, whose members run once; see `DigitModel.denoiser`."""
        rows = history.shape[0]
        users = torch.zeros(rows, dtype=torch.int64, device=history.device) if users is None else users
        return FixedItems(self.distribution(history, users), rows, self._candidates)


def committee_of(members: Sequence[Recommender], weights: Sequence[float]) -> Committee:
    """Return the committee of some members; see `Committee`."""
    has_digits = any(isinstance(member, DigitModel) for member in members)
    return (DigitCommittee if has_digits else ItemCommittee)(members, weights)


def single_models(models: Sequence[Recommender]) -> list[tuple[Recommender, float]]:
    """Return models of equal weight, with the members of a committee in its place.

    Returns:
        Models, none of which is a committee, with their weights, whose sum is 1. The geometric mean of their
        distributions is that of the given models.
    """
    singles: list[tuple[Recommender, float]] = []
    for model in models:
        if isinstance(model, Committee):
            parts = zip(model.models, model.weights, strict=True)
            singles += [(member, weight / len(models)) for member, weight in parts]
        else:
            singles.append((model, 1 / len(models)))
    return singles
