"""Ranking block by block compared with a stable sort of all scores at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.data.eligible import Eligible
from pipelines.decode import beam, top_k
from pipelines.decode.beam import rank_items
from pipelines.decode.top_k import top
from pipelines.models.denoiser import ItemScores


def ranked(scores: np.ndarray, allowed: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the items and scores of one user, [min(k, items that qualify)], by a stable sort; −1 and −inf
    for items that this user must not get.
    """
    order = [i for i in np.argsort(-scores, kind="stable") if allowed[i] and scores[i] > -np.inf][:k]
    return np.array(order, np.int64), scores[order]


@settings(max_examples=150, deadline=None)
@given(
    items=st.integers(1, 60),
    users=st.integers(1, 4),
    k=st.integers(1, 25),
    block=st.integers(1, 40),
    values=st.integers(1, 6),
    are_logits=st.booleans(),
    filtered=st.booleans(),
    seen=st.booleans(),
    by_item=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_blocks_rank_as_a_sort_of_all_scores(
    items: int,
    users: int,
    k: int,
    block: int,
    values: int,
    are_logits: bool,
    filtered: bool,
    seen: bool,
    by_item: bool,
    seed: int,
) -> None:
    """Few different values, so that equal scores lie on both sides of a border."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, values, (users, items)).astype(np.float32)
    if not are_logits:
        scores[rng.random(scores.shape) < 0.1] = -np.inf
    chosen = np.flatnonzero(rng.random(items) < 0.5) if filtered else np.arange(items)
    chosen = chosen if len(chosen) else np.array([0])
    eligible = Eligible.of(items, chosen if filtered else None)
    allowed = np.zeros((users, items), bool)
    allowed[:, chosen] = True
    if seen:
        pairs = np.argwhere(rng.random((users, items)) < 0.3)
        eligible = eligible.without(*torch.as_tensor(pairs).T)
        allowed[tuple(pairs.T)] = False
    tensor, sizes = torch.as_tensor(scores), []

    def of(part: slice | torch.Tensor) -> torch.Tensor:
        block_scores = tensor[:, part]
        sizes.append(block_scores.shape[1])
        return block_scores.T.contiguous().T if by_item else block_scores

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(beam, "FEWEST", block)
        patch.setattr(beam, "CELLS", 1)
        patch.setattr(top_k, "MANY", 0)
        patch.setattr(top_k, "CHUNK", 3)
        patch.setattr(top_k, "FEW", 1)
        found = rank_items(ItemScores(of, are_logits), users, eligible, k, items)
    assert max(sizes) <= block
    assert sum(sizes) == (items if are_logits else len(chosen))
    expected = torch.as_tensor(scores).log_softmax(1).numpy() if are_logits else scores
    for user in range(users):
        best, best_scores = ranked(scores[user], allowed[user], k)
        assert found.items[user, : len(best), 0].tolist() == best.tolist()
        np.testing.assert_allclose(
            found.scores[user, : len(best)], expected[user, best], rtol=1e-5, atol=1e-5
        )
        assert (found.items[user, len(best) :] == -1).all()


def test_logits_far_below_the_largest_add_nothing() -> None:
    """The sum of exp(logit) neither overflows nor depends on where the largest logit lies."""
    logits = torch.tensor([[-2000.0, 1000.0, 999.0, -500.0], [0.0, 0.0, 0.0, 0.0]])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(beam, "FEWEST", 1)
        patch.setattr(beam, "CELLS", 1)
        found = rank_items(ItemScores(lambda part: logits[:, part], True), 2, Eligible.of(4), 4, 4)
    assert found.items.squeeze(2).tolist() == [[1, 2, 3, 0], [0, 1, 2, 3]]
    torch.testing.assert_close(found.scores, logits.log_softmax(1).gather(1, found.items.squeeze(2)))


@settings(max_examples=100, deadline=None)
@given(
    rows=st.integers(1, 4),
    columns=st.integers(1, 90),
    k=st.integers(1, 12),
    values=st.integers(1, 6),
    by_column=st.booleans(),
    seed=st.integers(0, 999),
)
def test_the_best_chunks_hold_the_best_scores(
    rows: int, columns: int, k: int, values: int, by_column: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, values, (rows, columns)).astype(np.float32)
    scores[rng.random(scores.shape) < 0.2] = -np.inf
    tensor = torch.as_tensor(scores)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("MANY", 0), ("CHUNK", 4), ("FEW", 1)):
            patch.setattr(top_k, name, value)
        result, positions = top(tensor.T.contiguous().T if by_column else tensor, k)
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    assert result.tolist() == np.take_along_axis(scores, expected, axis=1).tolist()
    finite = result.isfinite().numpy()
    assert positions.numpy()[finite].tolist() == expected[finite].tolist()
