"""Losses of masked digits, over the items of a catalogue, and between views of sequences.

A state should have a large dot product, the logit, with the vector of its true item. Every loss is a float32
scalar: the weighted sum over the states.

Shapes: R states, N items, D width, Q masked digits.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.models.objectives.repeat_bias import RepeatBias
from pipelines.models.objectives.soft_targets import TeacherItems, soft_cross_entropy


def masked_digit_loss(
    logits: Callable[[Tensor, int], Tensor],
    states: Tensor,
    codes: Tensor,
    weights: Tensor,
    counts: list[int],
    smoothing: float = 0.0,
    shares: Tensor | None = None,
) -> Tensor:
    """Compute the weighted sum of the cross-entropies of masked digits (paper, equation 3).

    Args:
        logits: a function from states [R, D] and a digit to its logits, float32 [R, V].
        states: [Q, D], those of the first digit first, then those of the second, and so on.
        codes: true codes, int64 [Q]; with soft targets, the codes of J items each, int64 [Q, J].
        weights: [Q].
        counts: number of states of each of the H digits.
        smoothing: label smoothing, the share of a target that is spread over all codes (Szegedy et al. 2016).
        shares: shares of the J items in a soft target, float32 [Q, J]; None for true codes.

    Returns:
        A float32 scalar.
    """
    loss = states.new_zeros((), dtype=torch.float32)
    parts = (part.split(counts) for part in (states, codes, weights))
    of_digits = [None] * len(counts) if shares is None else shares.split(counts)
    for digit, (state, code, weight, share) in enumerate(zip(*parts, of_digits, strict=True)):
        loss = loss + code_loss(logits(state, digit), code, smoothing, share) @ weight
    return loss


def code_loss(logits: Tensor, codes: Tensor, smoothing: float, shares: Tensor | None) -> Tensor:
    """Compute the cross-entropies of digits, float32 [Q], from their logits, float32 [Q, V]; the other
    arguments are those of `masked_digit_loss`.
    """
    if shares is None:
        return F.cross_entropy(logits, codes, reduction="none", label_smoothing=smoothing)
    loss = soft_cross_entropy(logits, codes, shares)
    return (1 - smoothing) * loss - smoothing * logits.log_softmax(1).mean(1) if smoothing else loss


def softmax_loss(
    states: Tensor,
    vectors: Tensor,
    items: Tensor,
    weights: Tensor,
    smoothing: float = 0.0,
    repeat_bias: RepeatBias | None = None,
    teacher: TeacherItems | None = None,
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
        teacher: items of teachers, which share the targets with the true items; None for none.
    """
    logits = (states @ vectors.T).float()  # [R, N]
    if repeat_bias is not None:
        logits = repeat_bias.add_to(logits)
    if teacher is None:
        loss = F.cross_entropy(logits, items, reduction="none")
    else:
        loss = soft_cross_entropy(logits, *teacher.mixed(items, kept=smoothing))
    if smoothing:  # a share of the true item goes to all items
        # The mean logit over a catalogue is the logit of its mean vector: no pass over R·N logits.
        true = (states * vectors[items]).sum(1, dtype=torch.float32)  # [R]
        mean = (states * vectors.mean(0)).sum(1, dtype=torch.float32)  # [R]
        if repeat_bias is not None:
            true = true + repeat_bias.of_items(items)
            mean = mean + repeat_bias.mean(len(vectors))
        loss = loss + smoothing * (true - mean)
    return loss @ weights


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
