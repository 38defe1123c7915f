"""Recommendations of untrained models: what a person has seen is left out, the rest moves up; how users are put into batches."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.evaluate.recommend import batch_rows
from tests.models.test_every_model import N, build, search, split

HISTORIES = [[3, 7, 1, 4], [5], [20, 21, 20]]


@pytest.mark.parametrize("name", ["maskgr", "sasrec"])
def test_unseen_leaves_out_the_history_alone(name: str) -> None:
    model, users = build(name), split(HISTORIES, [0, 0, 0])
    every, exclude_seen = search(model, users, beams=N), search(model, users, beams=N, exclude_seen=True)
    for row, history in enumerate(HISTORIES):
        kept = [
            place for place, item in enumerate(every.items[row, :, 0]) if item >= 0 and item not in history
        ]
        assert len(kept) == N - len(set(history))  # the beams hold the whole catalogue
        assert exclude_seen.items[row, :, 0].tolist() == [
            *every.items[row, kept, 0],
            *[-1] * len(set(history)),
        ]
        np.testing.assert_array_equal(
            exclude_seen.scores[row], [*every.scores[row, kept], *[-np.inf] * len(set(history))]
        )


@pytest.mark.parametrize("tokens", [1, 100, 10_000])
def test_batches_are_of_one_length_the_longest_first_and_fit(tokens: int) -> None:
    """So that no batch is padded, and where the memory does not suffice it shows at once."""
    lengths = np.random.default_rng(0).integers(1, 30, 200)
    users = split([[0] * n for n in lengths], [0] * 200)
    for beams, once in ((1, False), (4, False), (4, True)):
        batches = batch_rows(users, 20, 3, beams, tokens, once, users=30)
        assert sorted(np.concatenate(batches).tolist()) == list(range(200))
        seen = [np.minimum(lengths[rows], 20) for rows in batches]
        assert all(len(set(each)) == 1 for each in seen)
        firsts = [each[0] for each in seen]
        assert firsts == sorted(firsts, reverse=True)
        for rows, items in zip(batches, firsts, strict=True):
            cost = 3 * ((1 if once else beams) * items + beams)
            assert len(rows) == 1 or len(rows) * cost <= tokens and len(rows) <= 30
        if tokens == 10_000:
            assert max(map(len, batches)) == 30
