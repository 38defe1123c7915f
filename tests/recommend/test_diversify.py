"""Maximal marginal relevance against a plain loop, and recommendations that use it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pipelines.errors import UserError
from pipelines.recommend.diversify import most_marginal
from pipelines.recommend.model import Model
from pipelines.recommend.similar import compared

HISTORY = ["item-3", "item-4", "item-5"]


def slow(scores: list[float], items: list[int], vectors: torch.Tensor, weight: float, k: int) -> list[int]:
    """Return the places that the formula chooses, one history at a time."""
    exists = [place for place, item in enumerate(items) if item >= 0 and np.isfinite(scores[place])]
    best = max((scores[place] for place in exists), default=0.0)
    chosen: list[int] = []
    while len(chosen) < min(k, len(exists)):
        values = {
            place: (1 - weight) * np.exp(scores[place] - best)
            - weight * max((float(vectors[items[place]] @ vectors[items[c]]) for c in chosen), default=0.0)
            for place in exists
            if place not in chosen
        }
        chosen.append(max(values, key=lambda place: (values[place], -place)))
    return chosen


@pytest.mark.parametrize("weight", [0.0, 0.3, 0.7, 1.0])
def test_places_are_those_of_the_formula(weight: float) -> None:
    rng = np.random.default_rng(0)
    vectors = F.normalize(torch.as_tensor(rng.normal(size=(40, 5))), dim=1)
    scores = -np.sort(rng.exponential(size=(30, 12)), axis=1)
    items = np.stack([rng.permutation(40)[:12] for _ in range(30)])
    items[rng.random(items.shape) < 0.2] = -1
    items[0] = -1
    places = most_marginal(scores, items, vectors, weight, 6)
    for row in range(30):
        expected = slow(list(scores[row]), list(items[row]), vectors, weight, 6)
        assert places[row, : len(expected)].tolist() == expected
        assert (items[row, places[row, len(expected) :]] == -1).all()  # further ones are none
        assert len(set(places[row])) == 6


def test_an_example_by_hand() -> None:
    """The second item is equal to the first; the third is unlike it and half as probable."""
    vectors = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    scores = np.log(np.array([[0.4, 0.4, 0.2]], np.float32))
    order = {
        weight: most_marginal(scores, np.array([[0, 1, 2]]), vectors, weight, 3)[0] for weight in (0.3, 0.4)
    }
    assert order[0.3].tolist() == [0, 1, 2]  # 0.7 · 1 − 0.3 · 1 = 0.4 is above 0.7 · 0.5 = 0.35
    assert order[0.4].tolist() == [0, 2, 1]  # 0.6 − 0.4 = 0.2 is below 0.6 · 0.5 = 0.3


@pytest.mark.parametrize("name", ["maskgr", "sasrec", "cooccurrence"])
def test_recommendations_are_taken_from_the_candidates(model: Callable[..., Model], name: str) -> None:
    loaded = model(name)
    plain = loaded.recommend([HISTORY, []], k=20)
    diverse = loaded.recommend([HISTORY, []], k=4, diversity=0.6)
    mine, all_of = diverse.filter(history=0), plain.filter(history=0)
    assert mine["rank"].to_list() == [1, 2, 3, 4]
    assert mine["item_id"][0] == all_of["item_id"][0]
    scores = dict(zip(all_of["item_id"], all_of["score"], strict=True))
    assert [scores[item] for item in mine["item_id"]] == pytest.approx(mine["score"].to_list())
    assert diverse.filter(history=1).equals(plain.filter(history=1).head(4))  # popular items stay
    vectors = compared(loaded.trained, "model")

    def likeness(ids: list[str]) -> float:
        its = vectors[[int(item.removeprefix("item-")) for item in ids]]
        return float((its @ its.T).sum())

    assert likeness(mine["item_id"].to_list()) <= likeness(all_of["item_id"].to_list()[:4])


def test_a_weight_out_of_bounds_is_refused(model: Callable[..., Model]) -> None:
    with pytest.raises(UserError, match="--diversity is 1.5"):
        model("sasrec").recommend([HISTORY], diversity=1.5)
