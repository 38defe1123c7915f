"""What is SASRec's own: it sees no future, and its three losses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipelines.data.catalogue import Catalogue
from pipelines.errors import UserError
from pipelines.models import loading
from pipelines.models.item_models.config import SASRecConfig
from pipelines.models.item_models.sasrec import SASRec, strangers
from pipelines.models.objectives.losses import bce_loss, gbce_loss, sampled_loss, softmax_loss

N = 30
SIZES = {"layers": 2, "width": 16, "heads": 2, "mlp": 32, "dropout": 0.0, "max_items": 8}


def build(**settings: object) -> SASRec:
    torch.manual_seed(0)
    return loading.build(SASRecConfig(**SIZES, **settings), Catalogue(N)).eval()


@torch.no_grad()
def test_every_item_is_predicted_from_those_before_it_alone() -> None:
    """The loss is the sum over the items of −log softmax of the scores after their prefixes."""
    model, items = build(), np.array([[-1, -1, 3, 7, 1], [5, 2, 9, 4, 8]])
    items, weights = model.make_training_batch(items, np.random.default_rng(0))
    assert weights.tolist() == [[0, 0, 0, 1, 1], [0, 1, 1, 1, 1]]
    expected = 0.0
    for row in items:
        real = [i for i in row if i >= 0]
        for place in range(1, len(real)):
            scores = model.scores(torch.tensor([real[:place]]), torch.tensor([0]))[0]
            expected -= scores.log_softmax(0)[real[place]].item()
    assert model(items, weights).item() == pytest.approx(expected, rel=1e-5)


@torch.no_grad()
def test_scores_are_float32_in_any_precision() -> None:
    model, history, user = build(), torch.tensor([[3, 7, 1]]), torch.tensor([0])
    with torch.autocast("cpu", torch.bfloat16):
        scores = model.scores(history, user)
        state = model.states(history, history >= 0, torch.tensor([2]))
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, state.float() @ model.embedding.weight.T)


@torch.no_grad()
def test_binary_cross_entropy_by_hand() -> None:
    model = build(loss="bce")
    items, weights, negative = model.make_training_batch(np.array([[3, 7, 1]]), np.random.default_rng(0))
    expected = 0.0
    for place in (1, 2):
        scores = model.scores(torch.tensor([items[0, :place].tolist()]), torch.tensor([0]))[0]
        expected -= (
            scores[items[0, place]].sigmoid().log().item()
            + (1 - scores[negative[0, place]].sigmoid()).log().item()
        )
    assert model(items, weights, negative).item() == pytest.approx(expected, rel=1e-5)


def test_negatives_are_items_that_the_user_does_not_know() -> None:
    items = np.tile(np.arange(5), (400, 1))
    items[0, :2] = -1
    drawn = strangers(items, 8, np.random.default_rng(0))
    assert set(drawn[1:].ravel().tolist()) == {5, 6, 7}
    assert set(drawn[0].tolist()) <= {0, 1, 5, 6, 7}
    np.testing.assert_allclose(
        np.bincount(drawn[1:].ravel(), minlength=8)[5:] / drawn[1:].size, 1 / 3, atol=0.04
    )
    assert strangers(np.arange(4)[None], 4, np.random.default_rng(0)).shape == (
        1,
        4,
    )  # no stranger left, and no endless search


def test_gbce_is_the_papers_formula() -> None:
    """gSASRec, equations 10 and 14: β = α (t (1 − 1/α) + 1/α); t = 0 is plain binary cross-entropy, t = 1 has β = α."""
    torch.manual_seed(0)
    states, vectors, items, weights = (
        torch.randn(4, 6),
        torch.randn(N, 6),
        torch.tensor([1, 5, 1, 0]),
        torch.tensor([1.0, 2.0, 0.5, 1.0]),
    )
    k = 10
    for t in (0.0, 0.5, 1.0):
        torch.manual_seed(3)
        found = gbce_loss(states, lambda chosen: vectors[chosen], N, items, weights, k, t)
        torch.manual_seed(3)
        drawn = torch.randint(N, (k,))
        alpha = k / (N - 1)
        beta = alpha * (t * (1 - 1 / alpha) + 1 / alpha)
        expected = 0.0
        for state, item, weight in zip(states, items, weights, strict=True):
            total = beta * (state @ vectors[item]).sigmoid().log()
            for other in drawn[drawn != item]:
                total = total + (1 - (state @ vectors[other]).sigmoid()).log()
            expected = expected - weight * total / (k + 1)
        torch.testing.assert_close(found, expected)
    assert (0 * (1 - 1 / alpha) + 1 / alpha) * alpha == pytest.approx(1.0)


def test_a_sampled_softmax_nears_the_whole() -> None:
    torch.manual_seed(0)
    states, vectors, items, weights = (
        torch.randn(4, 6),
        torch.randn(N, 6),
        torch.tensor([1, 5, 1, 0]),
        torch.rand(4),
    )
    whole = softmax_loss(states, vectors, items, weights, 0.1)
    sample = sampled_loss(states, lambda chosen: vectors[chosen], N, items, weights, 200_000, 0.1)
    torch.testing.assert_close(sample, whole, rtol=1e-2, atol=1e-2)
    by_hand = -sum(
        w * ((s @ vectors.T).log_softmax(0) * (0.1 / N + 0.9 * torch.nn.functional.one_hot(i, N))).sum()
        for s, i, w in zip(states, items, weights, strict=True)
    )
    torch.testing.assert_close(whole, by_hand)
    assert bce_loss(states, vectors[items], vectors[items], weights) > 0


def test_every_loss_reaches_every_parameter() -> None:
    for settings in (
        {},
        {"negatives": 5},
        {"loss": "bce"},
        {"loss": "gbce", "negatives": 5},
        {"label_smoothing": 0.2},
    ):
        model = build(**settings)
        model(
            *model.make_training_batch(np.array([[3, 7, 1], [-1, 2, 9]]), np.random.default_rng(0))
        ).backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"loss": "hinge"}, "--loss 'hinge' is unknown"),
        ({"loss": "gbce"}, "needs --negatives"),
        ({"loss": "bce", "negatives": 4}, "takes one negative"),
        ({"loss": "bce", "label_smoothing": 0.1}, "--label-smoothing goes with --loss softmax"),
        ({"calibration": 1.5}, "--calibration is 1.5"),
        ({"negatives": -1}, "--negatives is -1"),
    ],
)
def test_what_does_not_go_together_is_refused(wrong: dict, named: str) -> None:
    with pytest.raises(UserError, match=named):
        SASRecConfig(**wrong)
