"""The losses against their formulas, written out in plain Python."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.models.objectives.losses import bce_loss, contrastive_loss, softmax_loss
from pipelines.models.objectives.repeat_bias import RepeatBias
from pipelines.models.objectives.sampling import gbce_loss, sampled_loss

R, N, D = 4, 30, 6
ITEMS, WEIGHTS = torch.tensor([1, 5, 1, 0]), torch.tensor([1.0, 2.0, 0.5, 1.0])


@pytest.fixture
def states() -> Tensor:
    return torch.randn(R, D, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def vectors() -> Tensor:
    return torch.randn(N, D, generator=torch.Generator().manual_seed(1))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("biased", [False, True])
def test_softmax_loss(states: Tensor, vectors: Tensor, smoothing: float, biased: bool) -> None:
    """−Σ_i q_i log p_i: q is ε/N for each item, and 1 − ε more for the true item."""
    history, scale = [[1, 7, 1], [-1, -1, 3], [-1, -1, -1], [0, 5, 9]], -1.5
    bias = RepeatBias(torch.tensor(history), torch.tensor([scale])) if biased else None
    expected = 0.0
    for row in range(R):
        logits = [float(states[row] @ vectors[i]) for i in range(N)]
        if biased:
            logits = [logit + scale * history[row].count(i) for i, logit in enumerate(logits)]
        total = math.log(sum(map(math.exp, logits)))
        target = [smoothing / N + (1 - smoothing) * (i == int(ITEMS[row])) for i in range(N)]
        expected -= float(WEIGHTS[row]) * sum(
            q * (logit - total) for q, logit in zip(target, logits, strict=True)
        )
    loss = softmax_loss(states, vectors, ITEMS, WEIGHTS, smoothing, bias)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_bce_loss(states: Tensor, vectors: Tensor) -> None:
    negative = vectors[10 : 10 + R]
    expected = 0.0
    for row in range(R):
        true, other = (float(states[row] @ vector) for vector in (vectors[ITEMS[row]], negative[row]))
        expected -= float(WEIGHTS[row]) * (math.log(sigmoid(true)) + math.log(1 - sigmoid(other)))
    loss = bce_loss(states, vectors[ITEMS], negative, WEIGHTS)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_contrastive_loss() -> None:
    """Two sequences with the views a, a' and b, b'.

    The dot products are a·a' = 3, a·b = 0, a·b' = 1, b·a' = b·b' = 2, a'·b' = 4.
    """
    first, second = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[3.0, 1.0], [1.0, 1.0]])
    e = math.exp
    of_a = -math.log(e(3 / 2) / (e(3 / 2) + e(0) + e(1 / 2)))
    of_a2 = -math.log(e(3 / 2) / (e(3 / 2) + e(1) + e(2)))
    of_b = -math.log(e(1) / (e(1) + e(0) + e(1)))
    of_b2 = -math.log(e(1) / (e(1) + e(1 / 2) + e(2)))
    expected = 0.5 * (of_a + of_a2) / 2 + 2.0 * (of_b + of_b2) / 2
    assert contrastive_loss(first, second, torch.tensor([0.5, 2.0]), 2.0).item() == pytest.approx(expected)


def test_losses_are_float32_in_bfloat16(states: Tensor, vectors: Tensor) -> None:
    narrow, positive = states.bfloat16(), vectors[ITEMS].bfloat16()
    rows = vectors.bfloat16()
    losses = (
        softmax_loss(narrow, rows, ITEMS, WEIGHTS, 0.1),
        sampled_loss(narrow, lambda chosen: rows[chosen], N, ITEMS, WEIGHTS, 5, 0.1),
        gbce_loss(narrow, lambda chosen: rows[chosen], N, ITEMS, WEIGHTS, 5, 0.75),
        bce_loss(narrow, positive, positive, WEIGHTS),
        contrastive_loss(narrow, positive, WEIGHTS, 1.0),
    )
    assert all(loss.dtype == torch.float32 and loss.ndim == 0 for loss in losses)


def test_smoothing_is_that_of_pytorch(states: Tensor, vectors: Tensor) -> None:
    each = F.cross_entropy(states @ vectors.T, ITEMS, reduction="none", label_smoothing=0.3)
    torch.testing.assert_close(softmax_loss(states, vectors, ITEMS, WEIGHTS, 0.3), each @ WEIGHTS)
