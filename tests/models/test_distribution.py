"""Distributions over the catalogue: one pass over sequences agrees with a pass for each history, blocks of
items agree with the whole, and each kind of model has the distribution that its definition says.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

from pipelines.models.base import DigitModel, ItemRanker, Recommender
from pipelines.models.distribution import (
    distribution_after,
    distribution_within,
    geometric_mean,
    has_distribution,
)
from pipelines.models.registry import MODELS
from tests.models.test_every_model import SIDS, N, V, build

SEQUENCES = torch.tensor([[3, 7, 1, 4, 9], [-1, -1, 5, 2, 5], [-1, -1, -1, -1, 8], [-1, 6, 6, 0, 29]])
PREFIX = {"attention": "prefix", "next_item": 0.0}
ITEM = {"tokens": "item", "likelihood": "item"}
ONE_PASS = {
    "small": ("maskgr", PREFIX | ITEM | {"item_embeddings": True}),
    "bias": ("maskgr", PREFIX | ITEM | {"repeat_bias": True}),
    "digits": ("maskgr", PREFIX | {"tokens": "digit"}),
    "item tokens": ("maskgr", PREFIX),
    "sasrec": ("sasrec", {"repeat_bias": True}),
    "cadirec": ("cadirec", {}),
    "rpg": ("rpg", {}),
}
PASSES = {
    "full": ("maskgr", ITEM),
    "paper": ("maskgr", {"tokens": "digit"}),
    "bert4rec": ("bert4rec", {}),
    "bsarec": ("bsarec", {"repeat_bias": True}),
    "diffgrm": ("diffgrm", {}),
}


@functools.cache
def model_of(name: str) -> Recommender:
    model, settings = (ONE_PASS | PASSES)[name]
    built = build(model, **settings)
    if getattr(built, "repeat_bias", None) is not None:
        built.repeat_bias.data.fill_(1.5)
    return built


def histories() -> list[list[int]]:
    """The items before each item that has one, sequence after sequence."""
    rows = [[item for item in row if item >= 0] for row in SEQUENCES.tolist()]
    return [row[:end] for row in rows for end in range(1, len(row))]


@torch.no_grad()
def one_by_one(model: Recommender) -> torch.Tensor:
    """Log-probabilities of the items after each history, a pass for each."""
    users = torch.arange(1)
    return torch.cat(
        [distribution_after(model, torch.tensor([row]), users).log_probs() for row in histories()]
    )


@pytest.mark.parametrize("name", ONE_PASS)
@torch.no_grad()
def test_one_pass_agrees_with_a_pass_for_each_history(name: str) -> None:
    scores = distribution_within(model_of(name), SEQUENCES)
    assert scores is not None
    torch.testing.assert_close(scores.log_probs(), one_by_one(model_of(name)), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ONE_PASS | PASSES)
@torch.no_grad()
def test_a_batch_in_blocks_agrees_with_single_histories_and_sums_to_one(name: str) -> None:
    rows = histories()
    padded = torch.tensor([[-1] * (4 - len(row)) + row for row in rows])
    scores = distribution_after(model_of(name), padded, torch.arange(len(rows)))
    blocks = torch.cat([scores.of(slice(start, start + 7)) for start in range(0, N, 7)], dim=1)
    logp = blocks.log_softmax(1)
    torch.testing.assert_close(logp.exp().sum(1), torch.ones(len(rows)))
    torch.testing.assert_close(logp, one_by_one(model_of(name)), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", PASSES)
def test_models_that_need_a_pass_for_each_history_say_so(name: str) -> None:
    assert distribution_within(model_of(name), SEQUENCES) is None


@torch.no_grad()
def test_the_distributions_are_those_of_their_definitions() -> None:
    history, user = torch.tensor([[3, 7, 1]]), torch.arange(1)
    sasrec, paper = model_of("sasrec"), model_of("paper")
    assert isinstance(sasrec, ItemRanker) and isinstance(paper, DigitModel)
    expected = sasrec.scores(history, user).log_softmax(1)
    torch.testing.assert_close(distribution_after(sasrec, history, user).log_probs(), expected)
    logp = paper.denoiser(history)(torch.full((1, 1, 3), V))[0, 0].view(3, V)
    products = torch.tensor([sum(logp[h, c].item() for h, c in enumerate(sid)) for sid in SIDS])
    expected = products.log_softmax(0)[None]
    torch.testing.assert_close(distribution_after(paper, history, user).log_probs(), expected)


@torch.no_grad()
def test_the_geometric_mean_of_distributions() -> None:
    history, user = SEQUENCES[:1], torch.arange(1)
    members = [distribution_after(model_of(name), history, user) for name in ("small", "sasrec", "paper")]
    product = np.prod([member.log_probs().exp().numpy() for member in members], axis=0) ** (1 / 3)
    mean = geometric_mean(members).log_probs().exp()
    torch.testing.assert_close(mean, torch.as_tensor(product / product.sum()), atol=1e-6, rtol=1e-4)


def test_models_that_decide_one_digit_after_another_have_none() -> None:
    assert {name for name in MODELS if not has_distribution(build(name))} == {"tiger", "liger"}
