"""Committees against literal computations over a small catalogue: the geometric mean of members of all kinds,
and the digits of its items.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

from pipelines.data.catalogue import Catalogue
from pipelines.decode.config import Decoding
from pipelines.decode.index import PartialIndex
from pipelines.evaluate.capabilities import resolve_decoding
from pipelines.evaluate.recommend import recommend
from pipelines.models.base import DigitModel, Recommender
from pipelines.models.committee import Committee, committee_of, single_models
from pipelines.models.distribution import distribution_after, distribution_within
from tests.conftest import ListProgress
from tests.models.test_every_model import CATALOGUE, SIDS, TEXT, N, V, build, search, split

ITEM = {"attention": "prefix", "tokens": "item", "likelihood": "item", "next_item": 0.0}
OTHER_SIDS = np.stack(
    np.unravel_index(np.random.default_rng(7).choice(5**4, N, replace=False), (5,) * 4), axis=1
)
MEMBERS = {  # name → model, its settings, and its catalogue
    "small": ("maskgr", ITEM | {"item_embeddings": True}, CATALOGUE),
    "other codes": ("maskgr", ITEM | {"max_items": 3}, Catalogue.of(OTHER_SIDS, 5, TEXT)),
    "paper": ("maskgr", {"tokens": "digit"}, CATALOGUE),
    "sasrec": ("sasrec", {"max_items": 2}, CATALOGUE),
    "bsarec": ("bsarec", {"max_items": 4}, CATALOGUE),
    "rpg": ("rpg", {}, CATALOGUE),
}
KINDS = {
    "two seeds' codes": ["small", "other codes"],
    "items beside digits": ["sasrec", "other codes", "small"],
    "apart": ["paper", "small"],
    "items": ["sasrec", "rpg", "bsarec"],
}
HISTORIES = [[3, 7, 1, 4, 9], [5, 2, 5], [8], [6, 6, 0, 29]]


@functools.cache
def model_of(name: str) -> Recommender:
    model, settings, catalogue = MEMBERS[name]
    built = build(model, list(MEMBERS).index(name), catalogue, **settings)
    with torch.no_grad():
        for parameter in built.parameters():  # far from uniform
            parameter.mul_(3)
    return built.train().eval()  # what was computed from earlier weights is forgotten


def committee(names: list[str], weights: list[float] | None = None) -> Committee:
    return committee_of([model_of(name) for name in names], weights or [1.0] * len(names)).eval()


@torch.no_grad()
def literal(names: list[str], weights: list[float], history: list[int]) -> np.ndarray:
    """Probabilities of all items: the product of the members' probabilities to the power of their weights."""
    product = np.ones(N)
    for name, weight in zip(names, weights, strict=True):
        model = model_of(name)
        seen = torch.tensor([history[-model.config.max_items :]])
        logp = distribution_after(model, seen, torch.arange(1)).log_probs()[0].double().numpy()
        product *= np.exp(logp) ** (weight / sum(weights))
    return product / product.sum()


@pytest.mark.parametrize("weights", [None, [3.0, 1.0, 2.0]], ids=["equal", "given"])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_the_distribution_is_the_geometric_mean_of_the_members(
    kind: str, weights: list[float] | None
) -> None:
    names = KINDS[kind]
    used = (weights or [1.0] * 3)[: len(names)]
    model = committee(names, used)
    assert isinstance(model, DigitModel) == (kind != "items")
    longest = max(map(len, HISTORIES))
    padded = torch.tensor([[-1] * (longest - len(row)) + row for row in HISTORIES])
    found = distribution_after(model, padded, torch.arange(len(HISTORIES)))
    blocks = torch.cat([found.of(slice(start, start + 7)) for start in range(0, N, 7)], dim=1)
    expected = np.stack([literal(names, used, row) for row in HISTORIES])
    np.testing.assert_allclose(blocks.softmax(1).numpy(), expected, rtol=2e-3, atol=1e-7)
    np.testing.assert_allclose(found.log_probs().exp().numpy(), expected, rtol=2e-3, atol=1e-7)


@pytest.mark.parametrize("nfe", [1, 2, 3])
@pytest.mark.parametrize("kind", ["two seeds' codes", "items beside digits", "apart"])
def test_any_number_of_evaluations_ranks_by_the_same_distribution(kind: str, nfe: int) -> None:
    model = committee(KINDS[kind])
    assert isinstance(model, DigitModel)
    catalogue = MEMBERS[KINDS[kind][model.lead]][2]
    index = PartialIndex(catalogue.require_sids(), catalogue.codes)
    decoding = resolve_decoding(Decoding(beams=N, nfe=nfe), model)
    found = recommend(model, split(HISTORIES, [0] * len(HISTORIES)), index, decoding, ListProgress())
    for row, history in enumerate(HISTORIES):
        expected = literal(KINDS[kind], [1.0] * len(KINDS[kind]), history)
        np.testing.assert_array_equal(np.sort(found.items[row, :, 0]), np.arange(N))
        np.testing.assert_allclose(
            np.exp(found.scores[row]), expected[found.items[row, :, 0]], rtol=2e-3, atol=1e-7
        )
        assert (np.diff(found.scores[row]) <= 0).all()


@torch.no_grad()
def test_a_code_has_the_probability_of_the_items_that_agree() -> None:
    """With one digit revealed, the other digits' probabilities are sums over the items that have its code."""
    names, history = KINDS["two seeds' codes"], HISTORIES[0]
    model = committee(names)
    assert isinstance(model, DigitModel)
    shown = int(SIDS[4, 1])
    codes = torch.tensor([[[V, shown, V]]])
    logp = model.denoiser(torch.tensor([history]))(codes)[0, 0].exp().numpy()  # [H, V]
    items = literal(names, [1.0, 1.0], history)
    agree = SIDS[:, 1] == shown
    for digit in (0, 2):
        expected = [items[agree & (SIDS[:, digit] == code)].sum() / items[agree].sum() for code in range(V)]
        np.testing.assert_allclose(logp[digit], expected, rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize("name", ["small", "paper", "sasrec", "rpg"])
@torch.no_grad()
def test_one_member_or_all_weight_on_one_is_that_member(name: str) -> None:
    history, user = torch.tensor([HISTORIES[3]]), torch.arange(1)
    seen = history[:, -model_of(name).config.max_items :]
    alone = distribution_after(model_of(name), seen, user).log_probs()
    for model in (committee([name]), committee(["other codes", name], [0.0, 5.0])):
        torch.testing.assert_close(distribution_after(model, history, user).log_probs(), alone)


def test_items_that_a_member_ranks_last_are_last_in_the_committee() -> None:
    """The lowest score of a member stays finite in the mean, so that the items are still candidates."""
    ranker, twin = build("sasrec"), build("sasrec", 1)
    for model in (ranker, twin):
        model.rank_new_items(torch.tensor([3, 20]), None)
    model = committee_of([ranker, twin, model_of("small")], [1.0, 1.0, 1.0]).eval()
    found = search(model, split(HISTORIES, [0] * len(HISTORIES)), beams=N, nfe=1)
    for row in found.items[:, :, 0]:
        assert set(row[-2:]) == {3, 20} and set(row) == set(range(N))


@torch.no_grad()
def test_similarity_is_the_weighted_mean_of_the_members() -> None:
    names, weights = ["small", "sasrec"], [0.25, 0.75]
    vectors = committee(names, weights).history_vectors()
    cosines = torch.nn.functional.cosine_similarity(vectors[:, None], vectors[None], dim=2)
    expected = torch.zeros(N, N)
    for name, weight in zip(names, weights, strict=True):
        own = model_of(name).history_vectors()
        expected += weight * torch.nn.functional.cosine_similarity(own[:, None], own[None], dim=2)
    torch.testing.assert_close(cosines, expected, atol=1e-5, rtol=1e-4)


def test_a_committee_among_teachers_has_the_weight_of_one() -> None:
    inner = committee(["small", "sasrec"], [0.25, 0.75])
    assert [weight for _, weight in single_models([inner, model_of("paper")])] == [0.125, 0.375, 0.5]
    assert distribution_within(inner, torch.zeros((1, 2), dtype=torch.int64)) is None


def test_members_with_all_scores_at_once_bound_the_users_of_a_batch() -> None:
    assert committee(["small", "paper"]).scores_in_blocks
    assert not committee(["small", "sasrec"]).scores_in_blocks
