"""Of equal scores the lower number comes first, wherever things are ranked."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.decode import beam
from pipelines.decode.beam import Beams, beam_search
from pipelines.decode.config import ORDERS, Decoding
from pipelines.decode.dense import dense_search, reranked
from pipelines.decode.index import PartialIndex
from pipelines.decode.top import best_candidates, first_of_each, top
from tests.decode.models import catalogue


@settings(max_examples=100, deadline=None)
@given(
    rows=st.integers(1, 4),
    columns=st.integers(1, 30),
    k=st.integers(1, 35),
    values=st.integers(1, 6),
    seed=st.integers(0, 999),
)
def test_top_is_a_stable_sort(rows: int, columns: int, k: int, values: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, values, (rows, columns)).astype(np.float32)
    scores[rng.random(scores.shape) < 0.1] = -np.inf
    found, places = top(torch.as_tensor(scores), k)
    wanted = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    assert found.tolist() == np.take_along_axis(scores, wanted, axis=1).tolist()
    finite = found.isfinite().numpy()
    assert places.numpy()[finite].tolist() == wanted[finite].tolist()


@settings(max_examples=100, deadline=None)
@given(
    keep=st.integers(1, 12),
    columns=st.integers(1, 60),
    values=st.integers(1, 5),
    constrained=st.booleans(),
    seed=st.integers(0, 999),
)
def test_candidates_as_if_all_were_tested(
    keep: int, columns: int, values: int, constrained: bool, seed: int
) -> None:
    """The best that hold, of equal ones the lower items, though only few are looked at first."""
    rng = np.random.default_rng(seed)
    sids = rng.permutation(64)[:20, None] // np.array([16, 4, 1]) % 4  # items in no order of their numbers
    index = PartialIndex(sids, 4)
    scores = torch.as_tensor(rng.integers(0, values, (2, columns)).astype(np.float32))
    offered = index.number(torch.as_tensor(rng.integers(0, 4, (2, columns, 3))))
    picked, alive = best_candidates(
        scores, lambda users, places: offered[users].gather(1, places), index, keep, constrained
    )
    for user in range(2):
        entries = [(-float(scores[user, c]), int(index.order(offered[user, c])), c) for c in range(columns)]
        wanted = sorted(e for e in entries if not constrained or index.valid(offered[user, e[2]]))[:keep]
        got = picked[user][alive[user]].tolist()
        assert [(-float(scores[user, c]), int(index.order(offered[user, c]))) for c in got] == [
            e[:2] for e in wanted
        ]


def test_of_equal_candidates_the_best_stays() -> None:
    numbers = torch.tensor([[3, 1, 3, 2, 1, 3], [1, 2, 3, 4, 5, 6]])  # best first
    assert first_of_each(numbers).tolist() == [[True, True, False, True, False, False], [True] * 6]


@pytest.mark.parametrize("unmask", ORDERS)
def test_beams_with_equal_scores(unmask: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that knows nothing: all items are alike, and the first come first, block by block too."""
    monkeypatch.setattr(beam, "CELLS", 7)
    sids = catalogue(30, 3, 4)

    def indifferent(codes: torch.Tensor) -> torch.Tensor:
        return torch.full((*codes.shape, 4), 0.25).log()

    for T in (1, 2, 3):
        found = beam_search(
            indifferent, torch.arange(2), PartialIndex(sids, 4), Decoding(unmask=unmask, nfe=T, beams=10)
        )
        assert found.items.squeeze(2).tolist() == found.items.squeeze(2).sort(dim=1).values.tolist()
        if T == 1:
            assert found.items.squeeze(2).tolist() == [list(range(10))] * 2


def test_dense_scores_that_are_equal() -> None:
    query, text = torch.ones(2, 1), torch.tensor([0.5, 1.0, 0.5, 1.0, 0.5, 0.2])[:, None]
    assert dense_search(query, text, 4).items.squeeze(2).tolist() == [[1, 3, 0, 2]] * 2
    beams = Beams(
        torch.tensor([[[4], [-1], [0], [3], [2]]]), torch.zeros(1, 5), torch.zeros(1, dtype=torch.int64)
    )
    assert reranked(beams, query[:1], text).items.squeeze(2).tolist() == [[3, 0, 2, 4, -1]]
