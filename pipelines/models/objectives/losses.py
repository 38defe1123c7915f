"""Losses of masked digits, over the items of a catalogue, and between views of sequences.

A state should have a large dot product, the logit, with the vector of its true item. Every loss is a float32
scalar: the weighted sum over the states.

Shapes: R states, N items, D width, Q items of a lookup.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.models.objectives.repeat_bias import RepeatBias


def masked_digit_loss(
    logits: Callable[[Tensor, int], Tensor],
    states: Tensor,
    codes: Tensor,
    weights: Tensor,
    counts: list[int],
    smoothing: float = 0.0,
) -> Tensor:
    """Compute the weighted sum of the cross-entropies of masked digits (paper, equation 3).

    Args:
        logits: a function from states [R, D] and a digit to its logits, float32 [R, V].
        states: [Q, D], those of the first digit first, then those of the second, and so on.
        codes: true codes, int64 [Q].
        weights: [Q].
        counts: number of states of each of the H digits.
        smoothing: label smoothing, the share of a target that is spread over all codes (Szegedy et al. 2016).

    Returns:
        A float32 scalar.
    """
    loss = states.new_zeros((), dtype=torch.float32)
    parts = (part.split(counts) for part in (states, codes, weights))
    for digit, (state, code, weight) in enumerate(zip(*parts, strict=True)):
        losses = F.cross_entropy(logits(state, digit), code, reduction="none", label_smoothing=smoothing)
        loss = loss + losses @ weight
    return loss


def softmax_loss(
    states: Tensor,
    vectors: Tensor,
    items: Tensor,
    weights: Tensor,
    smoothing: float = 0.0,
    repeat_bias: RepeatBias | None = None,
) -> Tensor:
    """Compute the cross-entropy of a softmax over the whole catalogue.

    Args:
        states: [R, D].
        vectors: [N, D].
        items: true items, int64 [R].
        weights: loss weights [R].
        smoothing: label smoothing, the share of the target that is spread over all items (Szegedy et al.
            2016, arXiv 1512.00567).
        repeat_bias: repeat bias of the states' histories; None for none.
    """
    logits = (states @ vectors.T).float()  # [R, N]
    if repeat_bias is not None:
        logits = repeat_bias.add_to(logits)
    loss = F.cross_entropy(logits, items, reduction="none")
    if smoothing:
        # The mean logit over a catalogue is the logit of its mean vector: no pass over R·N logits.
        true = (states * vectors[items]).sum(1, dtype=torch.float32)  # [R]
        mean = (states * vectors.mean(0)).sum(1, dtype=torch.float32)  # [R]
        if repeat_bias is not None:
            true = true + repeat_bias.of_items(items)
            mean = mean + repeat_bias.mean(len(vectors))
        loss = loss + smoothing * (true - mean)
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
    """Compute a sampled softmax loss, for catalogues that are too large for `softmax_loss`.

    Negative items are drawn uniformly, the same for all states. The sum over the N − 1 other items is
    estimated without bias by the sum over the negatives, scaled up.

    Args:
        states: [R, D].
        vectors: function from items [Q] to their vectors [Q, D].
        N: number of items.
        items: true items, int64 [R].
        weights: loss weights [R].
        negatives: number of negatives.
        smoothing: label smoothing, see `softmax_loss`; the mean over all items is estimated by the mean over
            the negatives.
    """
    true, others, hits = _sampled_logits(states, vectors, N, items, negatives)
    # Each negative stands for (N − 1) / (negatives that are not the true item) items.
    scale = torch.log((N - 1) / (negatives - hits.sum(1)).clamp(min=1))  # [R]
    logits = torch.cat((true[:, None], others.masked_fill(hits, -torch.inf) + scale[:, None]), dim=1)
    expected = (1 - smoothing) * true + smoothing * others.mean(1)
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
    """Compute the generalized binary cross-entropy of gSASRec.

    Source: Petrov and Macdonald 2023, arXiv 2308.07192, section 5.

    −(β log σ(s⁺) + Σ log(1 − σ(s⁻))) / (k + 1) with k negatives, β = α (t (1 − 1/α) + 1/α) and the sampling
    rate α = k / (N − 1). At t = 1 the logits are calibrated as with all negatives; at t = 0 it is plain
    binary cross-entropy. The negatives are the same for all states. A negative that is the true item is left
    out.

    Args:
        states: [R, D].
        vectors: function from items [Q] to their vectors [Q, D].
        N: number of items.
        items: true items, int64 [R].
        weights: loss weights [R].
        negatives: k.
        calibration: t.
    """
    alpha = negatives / (N - 1)
    beta = alpha * (calibration * (1 - 1 / alpha) + 1 / alpha)
    true, others, hits = _sampled_logits(states, vectors, N, items, negatives)
    log_rejections = F.logsigmoid(-others).masked_fill(hits, 0.0).sum(1)  # [R]
    return -(beta * F.logsigmoid(true) + log_rejections) / (negatives + 1) @ weights


def bce_loss(states: Tensor, positive: Tensor, negative: Tensor, weights: Tensor) -> Tensor:
    """Compute the binary cross-entropy with one negative per state.

    Source: Kang and McAuley 2018, arXiv 1808.09781, equation 7.

    Args:
        states: [R, D].
        positive: vectors of the true items [R, D].
        negative: vectors of the negatives [R, D].
        weights: loss weights [R].
    """
    true, other = ((states * vectors).sum(1).float() for vectors in (positive, negative))
    return -(F.logsigmoid(true) + F.logsigmoid(-other)) @ weights


def contrastive_loss(first: Tensor, second: Tensor, weights: Tensor, temperature: float) -> Tensor:
    """Compute InfoNCE between two views of R sequences: a view should resemble its twin most.

    As Chen et al. 2020 (arXiv 2002.05709, equation 1), with dot products instead of cosines: the mean over
    both directions, against the 2·(R − 1) views of the other sequences.

    Args:
        first: first views [R, D].
        second: second views [R, D].
        weights: weights of the sequences [R].
        temperature: divisor of the dot products.
    """
    views = torch.cat((first, second))  # [2·R, D]
    similarity = (views @ views.T).float() / temperature  # [2·R, 2·R]
    similarity.fill_diagonal_(-torch.inf)
    twin = torch.arange(len(views), device=views.device).roll(len(first))  # [2·R]
    return F.cross_entropy(similarity, twin, reduction="none") @ weights.repeat(2) / 2


def _sampled_logits(
    states: Tensor, vectors: Callable[[Tensor], Tensor], N: int, items: Tensor, negatives: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw negatives uniformly.

    Returns:
        Logits of the true items [R]; logits of the negatives [R, negatives]; bool [R, negatives], True where
        a negative is the true item.
    """
    drawn = torch.randint(N, (negatives,), device=states.device)
    true = (states * vectors(items)).sum(1).float()
    return true, (states @ vectors(drawn).T).float(), items[:, None] == drawn
