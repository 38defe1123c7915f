"""Of equal scores the lower number comes first, in every ranking."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.data.eligible import Eligible
from pipelines.decode import beam
from pipelines.decode.beam import Beams, beam_search
from pipelines.decode.config import ORDERS, Decoding
from pipelines.decode.dense import dense_search, rerank
from pipelines.decode.index import PartialIndex
from pipelines.decode.top_k import best_candidates, first_of_each, top
from pipelines.models.denoiser import IndependentDigits
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
    result, positions = top(torch.as_tensor(scores), k)
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    assert result.tolist() == np.take_along_axis(scores, expected, axis=1).tolist()
    finite = result.isfinite().numpy()
    assert positions.numpy()[finite].tolist() == expected[finite].tolist()


@settings(max_examples=100, deadline=None)
@given(
    keep=st.integers(1, 12),
    columns=st.integers(1, 60),
    values=st.integers(1, 5),
    constrained=st.booleans(),
    seed=st.integers(0, 999),
)
def test_the_best_candidates_are_those_of_testing_all(
    keep: int, columns: int, values: int, constrained: bool, seed: int
) -> None:
    """The result is that of testing all candidates, although few are tested first: of equal scores the lower
    items.
    """
    rng = np.random.default_rng(seed)
    sids = rng.permutation(64)[:20, None] // np.array([16, 4, 1]) % 4  # items in random order
    index = PartialIndex(sids, 4)
    scores = torch.as_tensor(rng.integers(0, values, (2, columns)).astype(np.float32))
    offered = index.keys(torch.as_tensor(rng.integers(0, 4, (2, columns, 3))))
    valid = index.valid if constrained else None
    picked, alive = best_candidates(
        scores, lambda users, positions: offered[users].gather(1, positions), index, keep, valid
    )
    for user in range(2):
        entries = [
            (-float(scores[user, c]), int(index.tie_break(offered[user, c])), c) for c in range(columns)
        ]
        expected = sorted(e for e in entries if not constrained or index.valid(offered[user, e[2]]))[:keep]
        result = picked[user][alive[user]].tolist()
        assert [(-float(scores[user, c]), int(index.tie_break(offered[user, c]))) for c in result] == [
            e[:2] for e in expected
        ]


def test_of_equal_candidates_the_best_remains() -> None:
    numbers = torch.tensor([[3, 1, 3, 2, 1, 3], [1, 2, 3, 4, 5, 6]])  # best first
    assert first_of_each(numbers).tolist() == [[True, True, False, True, False, False], [True] * 6]


@pytest.mark.parametrize("unmask", ORDERS)
def test_beams_with_equal_scores(unmask: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under a uniform model all items are alike, and the first items come first, also block by block."""
    monkeypatch.setattr(beam, "CELLS", 7)
    sids = catalogue(30, 3, 4)

    def uniform(codes: torch.Tensor) -> torch.Tensor:
        return torch.full((*codes.shape, 4), 0.25).log()

    for T in (1, 2, 3):
        result = beam_search(
            IndependentDigits(uniform),
            torch.arange(2),
            PartialIndex(sids, 4),
            Decoding(unmask=unmask, nfe=T, beams=10),
        )
        assert result.items.squeeze(2).tolist() == result.items.squeeze(2).sort(dim=1).values.tolist()
        if T == 1:
            assert result.items.squeeze(2).tolist() == [list(range(10))] * 2


def test_dense_scores_that_are_equal() -> None:
    query, text = torch.ones(2, 1), torch.tensor([0.5, 1.0, 0.5, 1.0, 0.5, 0.2])[:, None]
    assert (
        dense_search(query, text, Eligible.of(len(text)), 4).items.squeeze(2).tolist() == [[1, 3, 0, 2]] * 2
    )
    beams = Beams(
        torch.tensor([[[4], [-1], [0], [3], [2]]]), torch.zeros(1, 5), torch.zeros(1, dtype=torch.int64)
    )
    assert rerank(beams, query[:1], text).items.squeeze(2).tolist() == [[3, 0, 2, 4, -1]]
