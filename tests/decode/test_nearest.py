"""Beams that are no item become the nearest item; compared with a brute-force search."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipelines.decode import nearest
from pipelines.decode.config import Decoding
from pipelines.decode.index import PartialIndex
from pipelines.decode.nearest import nearest_items
from pipelines.errors import UserError
from tests.decode.test_beam import RandomModel, catalogue, oracle, run


def by_hand(code: tuple[int, ...], sids: np.ndarray) -> int:
    """Return the item with most digits in common; of equals the one with earlier digits, then the first."""
    common = [tuple(int(a == b) for a, b in zip(code, sid, strict=True)) for sid in sids.tolist()]
    return max(range(len(sids)), key=lambda item: (sum(common[item]), common[item], -item))


def test_the_nearest_item_shares_most_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    sids = catalogue(40, 4, 5)
    every = np.stack(np.unravel_index(np.arange(5**4), (5,) * 4), axis=1)
    expected = [by_hand(tuple(code), sids) for code in every.tolist()]
    for cells in (nearest.CELLS, 100):  # in one block, and in many
        monkeypatch.setattr(nearest, "CELLS", cells)
        assert nearest_items(torch.as_tensor(every), PartialIndex(sids, 5)).tolist() == expected


@pytest.mark.parametrize("unmask", ["greedy", "left-to-right"])
def test_beams_become_items_and_each_item_occurs_once_at_its_best_rank(unmask: str) -> None:
    sids, model = catalogue(12, 3, 4), RandomModel(3, 3, 4)
    # As many beams as there are SIDs, so that the beams hold every SID.
    decoding = Decoding(unmask=unmask, beams=64, constrained=False, nearest=True)
    result = run(model, sids, decoding)
    for user in range(3):
        expected: dict[int, float] = {}
        for code, score in sorted(oracle(model, user, decoding).items(), key=lambda pair: -pair[1]):
            expected.setdefault(by_hand(code, sids), score)
        n = len(expected)
        assert result.items[user, :n, 0].tolist() == [*expected]
        assert result.scores[user, :n].numpy() == pytest.approx([*expected.values()], abs=1e-5)
        assert result.items[user, n:].unique().tolist() == [-1]
        assert result.duplicates[user] == 64 - n
    assert not result.invalid.any()


def test_the_nearest_item_needs_unconstrained_beams() -> None:
    with pytest.raises(
        UserError, match="^--nearest needs --no-constrained; with --constrained leave it out.$"
    ):
        Decoding(nearest=True)
    assert Decoding(nearest=True, constrained=False).name == "greedy-k20-unconstrained-nearest"
