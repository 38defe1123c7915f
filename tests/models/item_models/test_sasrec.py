"""SASRec: causal prediction, its losses, its negatives, its configuration."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipelines.data.catalogue import Catalogue
from pipelines.errors import UserError
from pipelines.models import loading
from pipelines.models.item_models.config import SASRecConfig
from pipelines.models.item_models.sasrec import SASRec, sample_negatives

N = 30
SIZES = {"layers": 2, "width": 16, "heads": 2, "mlp": 32, "dropout": 0.0, "max_items": 8}


def build(**settings: object) -> SASRec:
    torch.manual_seed(0)
    return loading.build(SASRecConfig(**SIZES, **settings), Catalogue(N)).eval()


@torch.no_grad()
def test_every_item_is_predicted_from_the_items_before_it_alone() -> None:
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


def test_negatives_are_items_outside_the_sequence() -> None:
    items = np.tile(np.arange(5), (400, 1))
    items[0, :2] = -1
    negatives = sample_negatives(items, 8, np.random.default_rng(0))
    assert set(negatives[1:].ravel().tolist()) == {5, 6, 7}
    assert set(negatives[0].tolist()) <= {0, 1, 5, 6, 7}
    many = sample_negatives(np.full((1, 400), 3), 8, np.random.default_rng(0))
    assert set(many[0].tolist()) == {0, 1, 2, 4, 5, 6, 7}
    shares = np.bincount(negatives[1:].ravel(), minlength=8)[5:] / negatives[1:].size
    np.testing.assert_allclose(shares, 1 / 3, atol=0.04)


def test_a_sequence_of_the_whole_catalogue_ends_the_search_for_negatives() -> None:
    assert sample_negatives(np.arange(4)[None], 4, np.random.default_rng(0)).shape == (1, 4)


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
        assert all(p.grad is not None and p.grad.to_dense().isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "hinge"}, "--loss 'hinge' is unknown"),
        ({"loss": "gbce"}, "needs --negatives"),
        ({"loss": "bce", "negatives": 4}, "--negatives 4 needs --loss softmax or --loss gbce"),
        ({"loss": "bce", "label_smoothing": 0.1}, "--label-smoothing 0.1 needs --loss softmax"),
        ({"calibration": 1.5}, "--calibration is 1.5"),
        ({"negatives": -1}, "--negatives is -1"),
    ],
)
def test_options_that_exclude_each_other_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        SASRecConfig(**settings)
