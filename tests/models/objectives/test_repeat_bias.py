"""The learnt score of items that a history holds: by hand, the same in training and in inference, and of the right sign."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipelines.data.catalogue import Catalogue
from pipelines.errors import UserError
from pipelines.models import loading
from pipelines.models.base import DigitModel, Recommender
from pipelines.models.objectives.repeat_bias import Held, items_before
from pipelines.models.registry import model_config
from tests.decode.models import catalogue

N, H, V = 30, 3, 4
SIDS = catalogue(N, H, V)
TINY = {"layers": 1, "width": 16, "heads": 2, "mlp": 32, "dropout": 0.0, "max_items": 6, "repeat_bias": True}
OWN = {  # one target a sequence, or all of them, whole
    "sasrec": {},
    "cadirec": {"contrastive": 0.0, "denoising": 0.0},
    "bert4rec": {"next_item": 1.0},
    "maskgr-items": {"next_item": 1.0},
    "dreamrec": {"ranking": 1.0, "history_dropout": 0.0},
    "maskgr": {"attention": "prefix", "tokens": "item", "likelihood": "item", "whole_item": 1.0},
}
HISTORIES = torch.tensor([[-1, 3, 7], [5, 2, 5]])


def build(name: str, bias: float = 0.0, **settings: object) -> Recommender:
    torch.manual_seed(0)
    model = loading.build(model_config(name, {**TINY, **OWN[name], **settings}), Catalogue.of(SIDS, V)).eval()
    if model.config.repeat_bias:
        model.repeat_bias.data.fill_(bias)
    return model


def scores(model: Recommender, history: torch.Tensor) -> torch.Tensor:
    """Of all items [B, N]; of a digit model, as far as a softmax shows them."""
    if isinstance(model, DigitModel):
        return model.denoiser(history).items(torch.full((len(history), 1, H), V))
    return model.scores(history, torch.arange(len(history)))


@pytest.fixture(params=OWN)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_each_time_that_an_item_is_held_counts() -> None:
    held = Held(torch.tensor([[4, 4, 1], [0, -1, -1], [-1, -1, -1]]), torch.tensor([-0.5]))
    expected = [[0, -0.5, 0, 0, -1.0], [-0.5, 0, 0, 0, 0], [0, 0, 0, 0, 0]]
    assert held.added(torch.zeros(3, 5)).tolist() == expected
    assert held.of(torch.tensor([1])).added(torch.ones(1, 5)).tolist() == [[0.5, 1, 1, 1, 1]]


def test_items_before_a_place() -> None:
    items = torch.tensor([[-1, 3, 7], [5, 2, 9]])
    found = items_before(items, torch.tensor([0, 1, 1]), torch.tensor([3, 1, 0]))
    assert found.tolist() == [[-1, 3, 7], [5, -1, -1], [-1, -1, -1]]


@torch.no_grad()
def test_only_held_items_score_otherwise(name: str) -> None:
    plain, biased = (scores(build(name, bias), HISTORIES) for bias in (0.0, -2.0))
    apart = biased - plain
    apart = apart - apart[:, :1]  # item 0 is in no history, and a softmax leaves no more than differences
    expected = torch.zeros(2, N)
    expected[0, [3, 7]] = -2.0
    expected[1, 2], expected[1, 5] = -2.0, -4.0
    torch.testing.assert_close(apart, expected, atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize(
    "name", [name for name in OWN if name != "dreamrec"]
)  # whose loss has noise: by hand in test_dreamrec
def test_training_sees_what_inference_sees(name: str) -> None:
    """The loss is the sum over the targets of −log p after their histories, repeats among them."""
    model, items = build(name, -2.0), np.array([[-1, -1, 3, 7, 3], [5, 2, 9, 9, 8]])
    items, weights, *more = model.make_training_batch(items, np.random.default_rng(0))
    expected = 0.0
    for row, counted in zip(items, weights, strict=True):
        for place in np.flatnonzero(counted.reshape(len(row), -1).any(1)):
            history = torch.as_tensor(row[:place][row[:place] >= 0]).long()[None]
            expected -= scores(model, history).log_softmax(1)[0, row[place]].item() * float(
                counted[place].sum()
            )
    assert expected > 0
    assert model(items, weights, *more).item() == pytest.approx(expected, rel=1e-5)


def test_repeats_raise_it_and_their_absence_lowers_it(name: str) -> None:
    for items, sign in (([[3, 7, 1, 4, 9]], 1), ([[3, 3, 3, 3, 3]], -1)):  # of the gradient
        model = build(name)
        drawn = model.make_training_batch(np.array(items), np.random.default_rng(0))
        model(*drawn).backward()
        assert model.repeat_bias.grad.item() * sign > 0


@torch.no_grad()
@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
def test_digit_after_digit_comes_to_the_same_items(order: list[int]) -> None:
    """With the states as they are, the digits' conditional probabilities multiply to the items', which the bias is part of."""
    model = build("maskgr", -2.0)
    joint, codes, total = model.denoiser(HISTORIES), torch.full((2, 1, H), V), torch.zeros(2, N)
    expected = joint.items(codes)
    logp = joint(codes)
    codes, origin = codes.repeat(1, N, 1), torch.zeros(2, N, dtype=torch.int64)
    for digit in order:
        code = torch.as_tensor(SIDS[:, digit]).expand(2, N)
        total += logp.expand(2, N, H, V)[:, :, digit].gather(2, code[:, :, None]).squeeze(2)
        codes[:, :, digit] = code
        logp = joint.again(codes, origin)
    torch.testing.assert_close(total, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("sasrec", {"loss": "bce"}, "--repeat-bias goes with --loss softmax"),
        ("sasrec", {"negatives": 8}, "leave out --negatives"),
        ("bert4rec", {"negatives": 8}, "leave out --negatives"),
        ("maskgr", {"negatives": 8}, "leave out --negatives"),
        ("maskgr", {"attention": "full"}, "--attention prefix"),
        ("maskgr", {"likelihood": "digit"}, "--likelihood item"),
    ],
)
def test_what_it_does_not_go_with(name: str, settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(name, **settings)


def test_a_training_step_asks_its_device_for_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in test_every_model."""
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *_: False)
    model = build(name)
    drawn = model.make_training_batch(
        np.array([[-1, -1, 3, 7], [5, 2, 9, 4]], np.int32), np.random.default_rng(1)
    )
    model.to("meta")(*drawn).backward()
    assert model.repeat_bias.grad is not None
