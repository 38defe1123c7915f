"""Distributions over the catalogue: what any model says of the next item, in one form.

A distribution is an `ItemScores` of logits for some histories: a softmax over the catalogue gives the
probabilities, and items are scored some at a time, so that the catalogue need not fit into memory beside the
histories. Each kind of model has one of its own:

- an item softmax has its softmax;
- a model that scores items, such as `sasrec`, has the softmax of its scores;
- a model with digits apart has the products of its digits' probabilities at one function evaluation with all
  digits masked, divided by their sum over the catalogue.

Models that decide digits one after another (`tiger`, `liger`) have none: they would need a pass through the
decoder for each item and history.

Shapes: B histories, n items of each, R rows, N items of the catalogue."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pipelines.models.base import DigitModel, ItemRanker, Recommender
from pipelines.models.denoiser import Denoiser, ItemScores


def has_distribution(model: Recommender) -> bool:
    """Return True if a model gives probabilities to all items at once."""
    return isinstance(model, ItemRanker) or (isinstance(model, DigitModel) and model.scores_items)


def distribution_after(model: Recommender, history: Tensor, users: Tensor) -> ItemScores:
    """Return the distribution of the item that follows each history.

    Args:
        model: in evaluation mode, on its device; see `has_distribution`.
        history: int64 [B, n], −1 at padding on the left, n at least 1, on the device of the model.
        users: user ids, int64 [B], that seed models that generate by a random process.

    Returns:
        Logits of B rows.
    """
    if isinstance(model, DigitModel):
        return _of_denoiser(model, model.denoiser(history, users), history.shape[0])
    assert isinstance(model, ItemRanker), "a model ranks items or has digits"
    scores = model.scores(history, users)
    return ItemScores(lambda items: scores[:, items], are_logits=True)


def distribution_within(model: Recommender, sequences: Tensor) -> ItemScores | None:
    """Return the distribution of each item of sequences, given the items before it, from one pass.

    Args:
        model: in evaluation mode, on its device; see `has_distribution`.
        sequences: int64 [B, n], −1 at padding on the left, on the host.

    Returns:
        Logits of R rows, one for each item that has an item before it, sequence after sequence. None if the
        model needs a pass for each history, as with full attention.
    """
    if isinstance(model, DigitModel):
        denoiser = model.denoiser_within(sequences)
        rows = int((sequences[:, :-1] >= 0).sum())
        return None if denoiser is None else _of_denoiser(model, denoiser, rows)
    assert isinstance(model, ItemRanker), "a model ranks items or has digits"
    scores = model.scores_within(sequences)
    return scores and ItemScores(scores.of, are_logits=True)


def geometric_mean(members: Sequence[ItemScores], weights: Sequence[float] | None = None) -> ItemScores:
    """Return the weighted geometric mean of distributions over the same rows, normalized: the weighted mean
    of their logits.

    The sum over the catalogue that normalizes a member is a factor of all items alike, so it cancels out.

    Args:
        members: the distributions.
        weights: weights of the members, at least 0, with sum 1; None for equal ones. A member of weight 0
            costs nothing.
    """
    shares = [1 / len(members)] * len(members) if weights is None else weights
    parts = [(member, share) for member, share in zip(members, shares, strict=True) if share]
    if len(parts) == 1:
        return parts[0][0]

    def of(items: slice | Tensor) -> Tensor:
        total = sum(share * member.of(items) for member, share in parts)
        assert isinstance(total, Tensor), "there are members"
        return total.clamp(min=torch.finfo(total.dtype).min)  # of items that members rank last

    return ItemScores(of, are_logits=True)


def _of_denoiser(model: DigitModel, denoiser: Denoiser, rows: int) -> ItemScores:
    device = next(model.parameters()).device
    masked = torch.full((rows, 1, model.digits), model.codes, device=device)
    scores = denoiser.score_items(masked, model.embedding.sids)
    return ItemScores(scores.of, are_logits=True)
