"""The repeat bias: its formula, the same in training and in inference, and the sign of its gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipelines.data.catalogue import Catalogue
from pipelines.errors import UserError
from pipelines.models import loading
from pipelines.models.base import DigitModel, Recommender
from pipelines.models.objectives.repeat_bias import RepeatBias, items_before
from pipelines.models.registry import model_config
from tests.decode.models import catalogue

N, H, V = 30, 3, 4
SIDS = catalogue(N, H, V)
TINY = {"layers": 1, "width": 16, "heads": 2, "mlp": 32, "dropout": 0.0, "max_items": 6, "repeat_bias": True}
OPTIONS = {  # one target per sequence, or all of them; items fully masked
    "sasrec": {},
    "cadirec": {"contrastive": 0.0, "denoising": 0.0},
    "bsarec": {},
    "bert4rec": {"next_item": 1.0},
    "maskgr-items": {"next_item": 1.0},
    "dreamrec": {"ranking": 1.0, "history_dropout": 0.0},
    "maskgr": {"attention": "prefix", "tokens": "item", "likelihood": "item", "whole_item": 1.0},
}
HISTORIES = torch.tensor([[-1, 3, 7], [5, 2, 5]])


def build(name: str, bias: float = 0.0, **settings: object) -> Recommender:
    torch.manual_seed(0)
    model = loading.build(
        model_config(name, {**TINY, **OPTIONS[name], **settings}), Catalogue.of(SIDS, V)
    ).eval()
    if model.config.repeat_bias:
        model.repeat_bias.data.fill_(bias)
    return model


def scores(model: Recommender, history: torch.Tensor) -> torch.Tensor:
    """Return the scores of all items [B, N]; of a digit model their log-probabilities."""
    if isinstance(model, DigitModel):
        masked = torch.full((len(history), 1, H), V)
        return model.denoiser(history).score_items(masked, torch.as_tensor(SIDS)).log_probs()
    return model.scores(history, torch.arange(len(history)))


@pytest.fixture(params=OPTIONS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_an_item_counts_each_time_that_it_occurs() -> None:
    repeat_bias = RepeatBias(torch.tensor([[4, 4, 1], [0, -1, -1], [-1, -1, -1]]), torch.tensor([-0.5]))
    expected = [[0, -0.5, 0, 0, -1.0], [-0.5, 0, 0, 0, 0], [0, 0, 0, 0, 0]]
    assert repeat_bias.add_to(torch.zeros(3, 5)).tolist() == expected
    assert repeat_bias.select(torch.tensor([1])).add_to(torch.ones(1, 5)).tolist() == [[0.5, 1, 1, 1, 1]]
    assert repeat_bias.of_items(torch.tensor([4, 1, 2])).tolist() == [-1.0, 0, 0]
    assert repeat_bias.mean(5).tolist() == pytest.approx([sum(row) / 5 for row in expected])


def test_the_bias_is_added_in_place() -> None:
    logits = torch.zeros(1, 3)
    assert RepeatBias(torch.tensor([[2]]), torch.tensor([1.0])).add_to(logits) is logits
    assert logits.tolist() == [[0, 0, 1]]


def test_a_model_without_a_scale_has_no_repeat_bias() -> None:
    assert RepeatBias.of(HISTORIES, None) is None
    repeat_bias = RepeatBias.of(HISTORIES, torch.tensor([2.0]))
    assert repeat_bias is not None
    assert repeat_bias.history is HISTORIES


def test_items_before_a_place() -> None:
    items = torch.tensor([[-1, 3, 7], [5, 2, 9]])
    found = items_before(items, torch.tensor([0, 1, 1]), torch.tensor([3, 1, 0]))
    assert found.tolist() == [[-1, 3, 7], [5, -1, -1], [-1, -1, -1]]


@torch.no_grad()
def test_only_items_of_the_history_score_differently(name: str) -> None:
    plain, biased = (scores(build(name, bias), HISTORIES) for bias in (0.0, -2.0))
    difference = biased - plain
    difference = (
        difference - difference[:, :1]
    )  # item 0 is in no history, and a softmax keeps differences alone
    expected = torch.zeros(2, N)
    expected[0, [3, 7]] = -2.0
    expected[1, 2], expected[1, 5] = -2.0, -4.0
    torch.testing.assert_close(difference, expected, atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "settings"),
    [(name, {}) for name in OPTIONS if name != "dreamrec"]  # random: see test_dreamrec
    + [(name, {"negatives": N}) for name in ("sasrec", "bert4rec", "maskgr-items", "maskgr")],
)
def test_training_sees_what_inference_sees(name: str, settings: dict) -> None:
    """The loss is the sum over the targets of −log p given their histories, in which items are repeated; also
    with as many negatives as items.
    """
    model, items = build(name, -2.0, **settings), np.array([[-1, -1, 3, 7, 3], [5, 2, 9, 9, 8]])
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


def test_repeats_raise_the_scale_and_their_absence_lowers_it(name: str) -> None:
    for items, sign in (([[3, 7, 1, 4, 9]], 1), ([[3, 3, 3, 3, 3]], -1)):  # of the gradient
        model = build(name)
        batch = model.make_training_batch(np.array(items), np.random.default_rng(0))
        model(*batch).backward()
        assert model.repeat_bias.grad.item() * sign > 0


@torch.no_grad()
@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
def test_digit_after_digit_gives_the_same_distribution(order: list[int]) -> None:
    """The product of the digits' conditional probabilities is the probability of the item, with the bias."""
    model = build("maskgr", -2.0)
    denoiser, codes, total = model.denoiser(HISTORIES), torch.full((2, 1, H), V), torch.zeros(2, N)
    expected = denoiser.score_items(codes, torch.as_tensor(SIDS)).log_probs()
    logp = denoiser(codes)
    codes, origin = codes.repeat(1, N, 1), torch.zeros(2, N, dtype=torch.int64)
    for digit in order:
        code = torch.as_tensor(SIDS[:, digit]).expand(2, N)
        total += logp.expand(2, N, H, V)[:, :, digit].gather(2, code[:, :, None]).squeeze(2)
        codes[:, :, digit] = code
        logp = denoiser.refine(codes, origin)
    torch.testing.assert_close(total, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("sasrec", {"loss": "bce"}, "--repeat-bias needs --loss softmax"),
        ("maskgr", {"attention": "full"}, "--attention prefix"),
        ("maskgr", {"likelihood": "digit"}, "--likelihood item"),
    ],
)
def test_options_that_exclude_a_repeat_bias(name: str, settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(name, **settings)


@pytest.mark.parametrize("negatives", [0, 8])
def test_a_training_step_waits_for_no_device(
    name: str, negatives: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A meta device has no data to wait for, as in test_every_model."""
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *_: False)
    if negatives and name == "dreamrec":
        return
    model = build(name, **({"negatives": negatives} if negatives else {}))
    batch = model.make_training_batch(
        np.array([[-1, -1, 3, 7], [5, 2, 9, 4]], np.int32), np.random.default_rng(1)
    )
    model.to("meta")(*batch).backward()
    assert model.repeat_bias.grad is not None


def test_parts_and_pairs_have_the_bias_of_the_whole() -> None:
    repeat_bias = RepeatBias(torch.tensor([[4, 4, 1], [0, -1, 6], [-1, -1, -1]]), torch.tensor([-0.5]))
    whole = repeat_bias.add_to(torch.zeros(3, 8))
    for items in (slice(None), slice(1, 5), slice(4, 20), torch.tensor([1, 4, 5]), torch.tensor([7])):
        part = torch.zeros_like(whole[:, items])
        assert repeat_bias.add_to_part(part, items) is part
        assert torch.equal(part, whole[:, items])
    rows, items = torch.arange(24) // 8, torch.arange(24) % 8
    assert torch.equal(repeat_bias.of_pairs(rows, items, 8), whole[rows, items])
    empty = RepeatBias(torch.full((2, 0), -1), torch.tensor([1.0]))
    assert empty.of_pairs(torch.tensor([0, 1]), torch.tensor([3, 3]), 8).tolist() == [0, 0]
