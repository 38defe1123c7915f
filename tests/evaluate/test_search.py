"""Items that qualify for a filter, and items left out for single users, in the search of every model, order
and number of function evaluations: the result is the filtered exhaustive ranking.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipelines.data.splits import Split
from pipelines.decode.config import Decoding
from pipelines.decode.index import PartialIndex
from pipelines.evaluate.capabilities import resolve_decoding
from pipelines.evaluate.recommend import Recommendations, recommend
from pipelines.models.base import DigitModel, Recommender
from tests.conftest import ListProgress
from tests.models.test_every_model import SIDS, H, N, V, build, split

HISTORIES = [[3, 7, 1, 4], [5], [20, 21, 20], list(range(8))]
QUALIFY = np.array([0, 2, 3, 5, 8, 9, 13, 17, 20, 21, 26, 29])
SOFTMAX = {
    **{"likelihood": "item", "attention": "prefix", "next_item": 0.0},
    **{"item_embeddings": True, "repeat_bias": True},
}
ORDERS = ("greedy", "left-to-right", "random")
CASES: list[tuple[str, dict[str, object], dict[str, object]]] = [
    *(("maskgr", {}, {"unmask": order, "nfe": nfe}) for order in ORDERS for nfe in (1, 2, 3)),
    *(("maskgr", SOFTMAX, {"unmask": order, "nfe": nfe}) for order in ORDERS for nfe in (None, 2, 3)),
    ("maskgr", {"dense": True}, {"retrieval": "dense"}),
    ("maskgr", {"dense": True}, {"retrieval": "unified"}),
    ("tiger", {}, {}),
    ("liger", {}, {"retrieval": "generative"}),
    ("liger", {}, {"retrieval": "dense"}),
    ("liger", {}, {}),
    ("diffgrm", {}, {"unmask": "greedy"}),
    *(
        (name, {}, {})
        for name in ("sasrec", "bsarec", "bert4rec", "maskgr-items", "dreamrec", "cadirec", "rpg")
    ),
]
IDS = ["-".join(map(str, (name, *settings, *decoding.values()))) for name, settings, decoding in CASES]


def find(
    model: Recommender, users: Split, items: np.ndarray | None = None, **decoding: object
) -> Recommendations:
    """Return the recommendations of a model among some items."""
    resolved = resolve_decoding(Decoding(**decoding), model)
    subsets = resolved.reachable(H)
    index = PartialIndex(SIDS, V, subsets, items) if isinstance(model, DigitModel) else None
    return recommend(model, users, index, resolved, ListProgress(), items=items)


def keep(ranked: Recommendations, row: int, allowed: set[int], K: int) -> tuple[list[int], np.ndarray]:
    """Return the first K allowed items of a ranking of the whole catalogue, and their scores."""
    items = ranked.items[row, :, 0].tolist()
    places = [place for place, item in enumerate(items) if item in allowed][:K]
    return [items[place] for place in places], ranked.scores[row, places]


@pytest.mark.parametrize("exclude_seen", [False, True], ids=["", "unseen"])
@pytest.mark.parametrize("items", [None, QUALIFY, QUALIFY[:1]], ids=["all", "some", "one"])
@pytest.mark.parametrize(("name", "settings", "decoding"), CASES, ids=IDS)
def test_a_search_among_some_items_is_the_filtered_ranking_of_all(
    name: str,
    settings: dict[str, object],
    decoding: dict[str, object],
    items: np.ndarray | None,
    exclude_seen: bool,
) -> None:
    """With as many beams as there are items the search is exhaustive, so that no pruning hides a fault."""
    model, users = build(name, **settings), split(HISTORIES, [0] * len(HISTORIES))
    users.__dict__["warm_items"] = np.arange(20)  # the others are cold
    ranked = find(model, users, beams=N, **decoding)
    found = find(model, users, items, beams=N, exclude_seen=exclude_seen, **decoding)
    for row, history in enumerate(HISTORIES):
        allowed = set(range(N) if items is None else items.tolist()) - set(history if exclude_seen else [])
        expected, scores = keep(ranked, row, allowed, N)
        assert sorted(expected) == sorted(allowed)  # every item that qualifies is found
        got = found.items[row, : len(expected), 0].tolist()
        assert (found.items[row, len(expected) :] == -1).all()
        assert np.isneginf(found.scores[row, len(expected) :]).all()
        np.testing.assert_allclose(found.scores[row, : len(expected)], scores, rtol=1e-4, atol=1e-4)
        assert got == expected or np.allclose(np.diff(scores), 0, atol=1e-4)


@pytest.mark.parametrize("beams", [1, 3, 6])
@pytest.mark.parametrize(
    ("name", "settings", "decoding"),
    [
        *CASES,
        *(("diffgrm", {}, {"nfe": nfe}) for nfe in (1, 2, 3)),
        ("maskgr", {}, {"unmask": "confidence", "nfe": 2}),
        ("maskgr", {}, {"remask": 2}),
        ("maskgr", SOFTMAX, {"remask": 1, "nfe": 2}),
    ],
)
def test_as_many_items_as_beams_come_if_so_many_qualify(
    name: str, settings: dict[str, object], decoding: dict[str, object], beams: int
) -> None:
    model, users = build(name, **settings), split(HISTORIES, [0] * len(HISTORIES))
    found = find(model, users, QUALIFY, beams=beams, exclude_seen=True, **decoding)
    for row, history in enumerate(HISTORIES):
        allowed = set(QUALIFY.tolist()) - set(history)
        got = [item for item in found.items[row, :, 0].tolist() if item >= 0]
        assert len(got) == len(set(got)) == min(beams, len(allowed))
        assert set(got) <= allowed


def test_a_seen_item_before_the_model_s_window_is_excluded() -> None:
    """A model sees the last items of a history only; the exclusion covers all of it."""
    history = [11, 12, *range(8)]
    model, users = build("maskgr"), split([history], [0])
    assert model.config.max_items < len(history)
    found = find(model, users, beams=N, exclude_seen=True)
    assert set(found.items[0, :, 0].tolist()) - {-1} == set(range(N)) - set(history)


def test_an_item_softmax_takes_one_function_evaluation_by_default() -> None:
    softmax, digits = build("maskgr", **SOFTMAX), build("maskgr")
    assert resolve_decoding(Decoding(), softmax).nfe == 1
    assert resolve_decoding(Decoding(nfe=2), softmax).nfe == 2
    assert resolve_decoding(Decoding(unmask_counts="1,2"), softmax).nfe is None
    assert resolve_decoding(Decoding(), softmax, horizon=2).nfe is None
    assert resolve_decoding(Decoding(), digits).nfe is None


@pytest.mark.parametrize("sizes", [(60, 3, 4), (200, 4, 4)])
@pytest.mark.parametrize("nfe", [1, 2, 3])
def test_narrow_beams_among_some_items_are_those_of_a_catalogue_of_these_items(
    sizes: tuple[int, int, int], nfe: int
) -> None:
    """A filter inside the search is a smaller catalogue: branch and bound, pruning and ties included."""
    from pipelines.decode.beam import beam_search
    from pipelines.models.denoiser import IndependentDigits

    count, digits, codes = sizes
    rng = np.random.default_rng(count + nfe)
    sids = np.stack(np.unravel_index(rng.choice(codes**digits, count, replace=False), (codes,) * digits), 1)
    items = np.sort(rng.choice(count, count // 2, replace=False))
    table = torch.as_tensor(rng.normal(size=(5, digits, codes)), dtype=torch.float32).log_softmax(-1)
    denoiser = IndependentDigits(lambda state: table[:, None].expand(-1, state.shape[1], -1, -1))
    users, decoding = torch.arange(5), Decoding(beams=4, nfe=nfe)
    some = beam_search(denoiser, users, PartialIndex(sids, codes, None, items), decoding)
    alone = beam_search(denoiser, users, PartialIndex(sids[items], codes), decoding)
    assert some.items[:, :, 0].tolist() == items[alone.items[:, :, 0]].tolist()
    torch.testing.assert_close(some.scores, alone.scores)
    seen = rng.choice(items, 6, replace=False)
    pairs = torch.arange(5).repeat_interleave(6), torch.as_tensor(seen).repeat(5)
    index = PartialIndex(sids, codes, None, items).excluding(*pairs)
    unseen = beam_search(denoiser, users, index, decoding)
    left = np.setdiff1d(items, seen)
    alone = beam_search(denoiser, users, PartialIndex(sids[left], codes), decoding)
    assert unseen.items[:, :, 0].tolist() == left[alone.items[:, :, 0]].tolist()
    torch.testing.assert_close(unseen.scores, alone.scores)


@pytest.mark.parametrize("nfe", [1, 2, 4])
def test_items_left_out_for_each_user_of_a_batch_that_is_split(
    monkeypatch: pytest.MonkeyPatch, nfe: int
) -> None:
    """Several items ahead are searched for some users at a time; each keeps the items left out for it."""
    from pipelines.decode import combinations

    model = build("maskgr")
    histories = [[3, 7, 1, 4], [5, 9, 12, 2], [20, 21, 20, 8], [0, 1, 2, 3]]  # one batch
    base = split(histories, [0] * len(histories))
    users = Split(base.items, base.offsets, base.users, np.zeros((len(histories), 2), np.int32))
    results = []
    for cells in (combinations.CELLS, 1):
        monkeypatch.setattr(combinations, "CELLS", cells)
        results.append(find(model, users, beams=200, nfe=nfe, exclude_seen=True))
    together, apart = results
    np.testing.assert_array_equal(together.items, apart.items)
    for row, history in enumerate(histories):
        assert not set(history) & set(apart.items[row].ravel().tolist())
        assert (apart.items[row] >= 0).all()
