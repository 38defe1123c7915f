"""Recommendations of untrained models without the seen items, and the batches of users."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.evaluate.recommend import batch_rows
from tests.models.test_every_model import split

HISTORIES = [[3, 7, 1, 4], [5], [20, 21, 20]]


@pytest.mark.parametrize("tokens", [1, 100, 10_000])
def test_a_batch_has_histories_of_one_length_and_fits(tokens: int) -> None:
    """No batch has padding. The longest come first, so that a lack of memory shows at once."""
    lengths = np.random.default_rng(0).integers(1, 30, 200)
    users = split([[0] * n for n in lengths], [0] * 200)
    for beams, once in ((1, False), (4, False), (4, True)):
        batches = batch_rows(users, 20, 3, beams, tokens, once, users=30)
        assert sorted(np.concatenate(batches).tolist()) == list(range(200))
        batch_lengths = [np.minimum(lengths[rows], 20) for rows in batches]
        assert all(len(set(each)) == 1 for each in batch_lengths)
        firsts = [each[0] for each in batch_lengths]
        assert firsts == sorted(firsts, reverse=True)
        for rows, items in zip(batches, firsts, strict=True):
            cost = 3 * ((1 if once else beams) * items + beams)
            assert len(rows) == 1 or len(rows) * cost <= tokens and len(rows) <= 30
        if tokens == 10_000:
            assert max(map(len, batches)) == 30


@pytest.mark.parametrize("fewest", [16, 64, 1000])
def test_small_groups_of_a_length_are_joined_with_shorter_ones(fewest: int) -> None:
    """Every batch but the last has so many rows at least, unless it is full; each row is in one batch."""
    lengths = np.random.default_rng(0).integers(1, 30, 200)
    users = split([[0] * n for n in lengths], [0] * 200)
    batches = batch_rows(users, 20, 3, 4, 10_000, True, users=300, fewest=fewest)
    assert sorted(np.concatenate(batches).tolist()) == list(range(200))
    assert all(
        len(rows) >= fewest or len(rows) * 3 * (min(20, lengths[rows].max()) + 4) > 10_000 - 3 * 24
        for rows in batches[:-1]
    )
    longest = [lengths[rows].max() for rows in batches]
    assert longest == sorted(longest, reverse=True)
    assert len(batches) < len(batch_rows(users, 20, 3, 4, 10_000, True, users=300))
