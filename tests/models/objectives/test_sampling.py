"""Losses over a sample: exact with as many draws as items, mean gradients of many draws, formulas by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from pipelines.models.objectives.losses import softmax_loss
from pipelines.models.objectives.repeat_bias import RepeatBias
from pipelines.models.objectives.sampling import draw, gbce_loss, sampled_loss

R, N, D = 4, 30, 6
ITEMS, WEIGHTS = torch.tensor([1, 5, 1, 0]), torch.tensor([1.0, 2.0, 0.5, 1.0])
HISTORY = [[1, 7, 1], [-1, -1, 3], [-1, -1, -1], [9, 5, 9]]


@pytest.fixture
def states() -> Tensor:
    return torch.randn(R, D, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def vectors() -> Tensor:
    return torch.randn(N, D, generator=torch.Generator().manual_seed(1))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize("parts", [1, 2, 5, 13])
def test_each_place_is_represented_once_on_average(parts: int) -> None:
    """Two places of a part stand for all of it, or the only place for itself."""
    torch.manual_seed(0)
    sizes = torch.tensor([1, 4, 10, 25]).repeat_interleave(4000)
    sample = draw(sizes, parts)
    assert torch.equal(sample.counts.sum(1).long(), sizes)
    assert (sample.places < sizes[:, None]).all()
    for size in (1, 4, 10, 25):
        places, counts = sample.places[sizes == size], sample.counts[sizes == size]
        of_parts = counts[0].view(-1, 2).sum(1)
        assert set(of_parts.tolist()) <= {size // parts, -(-size // parts)}
        assert (places[:, counts[0] > 0].diff(dim=1) > 0).all()
        assert torch.allclose(sample.remaining[sizes == size][0], (1 - 2 / of_parts).clamp(min=0))
        mean = torch.zeros(size).index_add_(0, places.flatten(), counts.flatten()) / 4000
        torch.testing.assert_close(mean, torch.ones(size), atol=4 * math.sqrt(size / 4000), rtol=0)


def losses(
    states: Tensor, vectors: Tensor, negatives: int, smoothing: float = 0.0, biased: bool = False
) -> tuple[Tensor, Tensor]:
    """Return the loss over the catalogue and the sampled loss, each with all its gradients."""
    found = []
    for sampled in (False, True):
        z, w = states.clone().requires_grad_(), vectors.clone().requires_grad_()
        scale = torch.tensor([-0.7], requires_grad=True)
        bias = RepeatBias(torch.tensor(HISTORY), scale) if biased else None
        if sampled:
            lookup = lambda items, w=w: w[items]  # noqa: E731
            loss = sampled_loss(z, lookup, N, ITEMS, WEIGHTS, negatives, smoothing, bias)
        else:
            loss = softmax_loss(z, w, ITEMS, WEIGHTS, smoothing, bias)
        loss.backward()
        grads = [part.grad.flatten() for part in (z, w, scale) if part.grad is not None]
        found.append(torch.cat((loss.detach()[None], *grads)))
    return found[0], found[1]


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("negatives", [N, 10 * N])
def test_as_many_negatives_as_items_are_the_whole_catalogue(
    states: Tensor, vectors: Tensor, smoothing: float, biased: bool, negatives: int
) -> None:
    whole, sample = losses(states, vectors, negatives, smoothing, biased)
    torch.testing.assert_close(sample, whole)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_sampled_loss_by_hand(states: Tensor, vectors: Tensor, smoothing: float) -> None:
    """The true item and the items of the history count once; a drawn item that is none of them counts for
    half of its part. Half the relative variance, by the difference of a part's two items, is added.
    """
    negatives, scale = 10, -0.7
    bias = RepeatBias(torch.tensor(HISTORY), torch.tensor([scale]))
    torch.manual_seed(3)
    lookup = lambda chosen: vectors[chosen]  # noqa: E731
    loss = sampled_loss(states, lookup, N, ITEMS, WEIGHTS, negatives, smoothing, bias)
    torch.manual_seed(3)
    drawn = draw(torch.tensor([N]), negatives // 2).places[0].tolist()
    assert len(set(drawn)) == negatives
    part = N / (negatives / 2)  # items of a part
    expected, met = 0.0, 0
    for row, true in enumerate(ITEMS.tolist()):
        history = [item for item in HISTORY[row] if item >= 0]
        logits = (vectors @ states[row]).tolist()
        apart = {true, *history}
        met += len(apart & set(drawn))
        terms = [0.0 if item in apart else part / 2 * math.exp(logits[item]) for item in drawn]
        total = sum(math.exp(logits[item] + scale * history.count(item)) for item in apart) + sum(terms)
        variance = sum((terms[k] - terms[k + 1]) ** 2 * (1 - 2 / part) for k in range(0, negatives, 2))
        mean = sum(part / 2 * logits[item] for item in drawn) / N + scale * len(history) / N
        target = (1 - smoothing) * (logits[true] + scale * history.count(true)) + smoothing * mean
        expected += float(WEIGHTS[row]) * (math.log(total) + variance / total**2 / 2 - target)
    assert met
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("biased", [False, True])
def test_the_mean_gradient_of_many_draws_is_that_of_the_whole_catalogue(biased: bool) -> None:
    """10,000 draws of 50 of 200 items: the mean lies within three standard errors of the exact gradient."""
    generator = torch.Generator().manual_seed(5)
    states, vectors = (torch.randn(n, 4, generator=generator) * 0.5 for n in (2, 200))
    items, history = torch.tensor([3, 150]), torch.tensor([[5, 9, 5], [-1, 150, 7]])

    def loss(states: Tensor, scale: Tensor, negatives: int) -> Tensor:
        bias = RepeatBias(history, scale) if biased else None
        lookup = lambda chosen: vectors[chosen]  # noqa: E731
        return sampled_loss(states, lookup, 200, items, torch.ones(2), negatives, 0.0, bias)

    gradient = torch.func.grad(loss, argnums=(0, 1) if biased else 0)
    draws = torch.func.vmap(gradient, in_dims=(0, 0, None), randomness="different", chunk_size=2000)
    scale = torch.tensor([-0.7])
    torch.manual_seed(0)
    drawn = draws(states.expand(10_000, -1, -1), scale.expand(10_000, -1), 50)
    exact = gradient(states, scale, 200)
    for many, one in zip(drawn, exact, strict=True) if biased else [(drawn, exact)]:
        error = many.std(0) / 100
        assert (error > 0).all()
        assert ((many.mean(0) - one).abs() < 3 * error).all()


@pytest.mark.parametrize("t", [0.0, 0.5, 1.0])
def test_gbce_loss(states: Tensor, vectors: Tensor, t: float) -> None:
    """gSASRec, equations 10 and 14: β = α (t (1 − 1/α) + 1/α), so β = 1 at t = 0 and β = α at t = 1."""
    k = 10
    torch.manual_seed(3)
    loss = gbce_loss(states, lambda chosen: vectors[chosen], N, ITEMS, WEIGHTS, k, t)
    torch.manual_seed(3)
    drawn = torch.randint(N, (k,)).tolist()
    alpha = k / (N - 1)
    beta = alpha * (t * (1 - 1 / alpha) + 1 / alpha)
    assert beta == pytest.approx({0.0: 1.0, 0.5: (1 + alpha) / 2, 1.0: alpha}[t])
    expected = 0.0
    for row in range(R):
        total = beta * math.log(sigmoid(float(states[row] @ vectors[ITEMS[row]])))
        for item in drawn:
            if item != ITEMS[row]:
                total += math.log(1 - sigmoid(float(states[row] @ vectors[item])))
        expected -= float(WEIGHTS[row]) * total / (k + 1)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
