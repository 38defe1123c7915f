"""Losses over the items of a catalogue, given states that should have a large product with the true item's vector; and of views.

Shapes: R states, N items, D width. All return a float32 scalar: the weighted sum over the states.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.models.objectives.repeat_bias import Held, with_repeats


def softmax_loss(
    states: Tensor,
    vectors: Tensor,
    items: Tensor,
    weights: Tensor,
    smoothing: float = 0.0,
    held: Held | None = None,
) -> Tensor:
    """Cross-entropy of a softmax over the whole catalogue.

    Args:
        states: [R, D].
        vectors: [N, D].
        items: int64 [R], the true ones.
        weights: [R].
        smoothing: share of the target that is spread over all items (Szegedy et al. 2016).
        held: what the states' histories hold.
    """
    loss = F.cross_entropy(with_repeats((states @ vectors.T).float(), held), items, reduction="none")
    if (
        smoothing
    ):  # the mean score of a catalogue is the score of its mean vector: no further pass over R·N scores
        own, mean = ((states * w).sum(1, dtype=torch.float32) for w in (vectors[items], vectors.mean(0)))
        if held:
            own, mean = own + held.bias * held.times(items), mean + held.bias * held.total / len(vectors)
        loss = loss + smoothing * (own - mean)
    return loss @ weights


def sampled_loss(
    states: Tensor,
    vectors: Callable[[Tensor], Tensor],
    N: int,
    items: Tensor,
    weights: Tensor,
    negatives: int,
    smoothing: float = 0.0,
) -> Tensor:
    """`softmax_loss` for catalogues that are too large to compare every state with every item.

    The true item is compared with `negatives` items drawn evenly, the same for all states: the sum over the N − 1 other
    items is estimated without bias by that over the drawn ones, scaled up.

    Args:
        vectors: of items [Q] → [Q, D].
        smoothing: as there; the mean over all items is estimated by that over the drawn ones.
    """
    own, others, hits = _against_drawn(states, vectors, N, items, negatives)
    scale = torch.log(
        (N - 1) / (negatives - hits.sum(1)).clamp(min=1)
    )  # of how many of the others each one stands
    logits = torch.cat((own[:, None], others.masked_fill(hits, -torch.inf) + scale[:, None]), dim=1)
    expected = (1 - smoothing) * own + smoothing * others.mean(1)
    return (logits.logsumexp(1) - expected) @ weights


def gbce_loss(
    states: Tensor,
    vectors: Callable[[Tensor], Tensor],
    N: int,
    items: Tensor,
    weights: Tensor,
    negatives: int,
    calibration: float,
) -> Tensor:
    """Generalised binary cross-entropy (gSASRec, Petrov and Macdonald 2023, arXiv 2308.07192, section 5).

    −(β log σ(s⁺) + Σ log(1 − σ(s⁻))) / (k + 1) with β = α (t (1 − 1/α) + 1/α) and the sampling rate α = k / (N − 1): with
    t = 1 the scores are those of all negatives, with t = 0 it is plain binary cross-entropy. The k negatives are the same
    for all states, and a negative that is the true item is left out.

    Args:
        calibration: t.
    """
    alpha = negatives / (N - 1)
    beta = alpha * (calibration * (1 - 1 / alpha) + 1 / alpha)
    own, others, hits = _against_drawn(states, vectors, N, items, negatives)
    against = F.logsigmoid(-others).masked_fill(hits, 0.0).sum(1)
    return -(beta * F.logsigmoid(own) + against) / (negatives + 1) @ weights


def bce_loss(states: Tensor, positive: Tensor, negative: Tensor, weights: Tensor) -> Tensor:
    """Binary cross-entropy with one negative a state (Kang and McAuley 2018, arXiv 1808.09781, equation 7).

    Args:
        positive: vectors of the true items, [R, D].
        negative: vectors of the negative ones, [R, D].
    """
    own, other = ((states * vectors).sum(1).float() for vectors in (positive, negative))
    return -(F.logsigmoid(own) + F.logsigmoid(-other)) @ weights


def contrastive_loss(first: Tensor, second: Tensor, weights: Tensor, temperature: float) -> Tensor:
    """InfoNCE between two views of R sequences: each view should have a larger product with its twin than with all other views.

    As Chen et al. 2020 (arXiv 2002.05709, equation 1) with products for cosines: the mean over both directions, against the
    2·(R − 1) views of the other sequences.

    Args:
        first: [R, D].
        second: [R, D].
        weights: of the sequences, [R].
        temperature: what products are divided by.
    """
    views = torch.cat((first, second))
    alike = (views @ views.T).float() / temperature  # [2R, 2R]
    alike.fill_diagonal_(-torch.inf)
    twin = torch.arange(len(views), device=views.device).roll(len(first))
    return F.cross_entropy(alike, twin, reduction="none") @ weights.repeat(2) / 2


def _against_drawn(
    states: Tensor, vectors: Callable[[Tensor], Tensor], N: int, items: Tensor, negatives: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Scores of the true items [R], of items drawn evenly [R, negatives], and where a drawn one is the true one."""
    drawn = torch.randint(N, (negatives,), device=states.device)
    own = (states * vectors(items)).sum(1).float()
    return own, (states @ vectors(drawn).T).float(), items[:, None] == drawn
