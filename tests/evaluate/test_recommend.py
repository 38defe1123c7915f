"""Recommendations of untrained models: what a person has seen is left out, and the rest moves up."""

from __future__ import annotations

import numpy as np
import pytest

from tests.models.test_every_model import N, build, search, split

HISTORIES = [[3, 7, 1, 4], [5], [20, 21, 20]]


@pytest.mark.parametrize("name", ["maskgr", "sasrec"])
def test_unseen_leaves_out_the_history_alone(name: str) -> None:
    model, users = build(name), split(HISTORIES, [0, 0, 0])
    every, unseen = search(model, users, beams=N), search(model, users, beams=N, unseen=True)
    for row, history in enumerate(HISTORIES):
        kept = [place for place, item in enumerate(every.items[row, :, 0]) if item >= 0 and item not in history]
        assert len(kept) == N - len(set(history))  # the beams hold the whole catalogue
        assert unseen.items[row, :, 0].tolist() == [*every.items[row, kept, 0], *[-1] * len(set(history))]
        np.testing.assert_array_equal(unseen.scores[row], [*every.scores[row, kept], *[-np.inf] * len(set(history))])
