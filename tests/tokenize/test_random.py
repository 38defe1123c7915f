"""Random semantic IDs: distinct whatever is asked, even, and blind to the vectors."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.errors import UserError
from pipelines.progress import Silent
from pipelines.tokenize.config import TokenizeConfig
from pipelines.tokenize.random import quantize


def digits(items: int, num_levels: int, codebook: int, seed: int = 0, value: float = 0.0) -> np.ndarray:
    """Whole SIDs [N, H]."""
    vectors = np.full((items, 4), value, np.float32)
    found = quantize(vectors, TokenizeConfig(num_levels, codebook, "random", seed=seed), Silent())
    assert found.relative_error is None and found.centroids is None
    return np.column_stack([found.codes, found.last])


@pytest.mark.parametrize(
    ("items", "num_levels", "codebook"), [(64, 1, 8), (64, 5, 2), (500, 4, 256), (500, 69, 3), (9, 3, 32767)]
)
def test_distinct_and_in_range_even_where_every_sid_is_taken(
    items: int, num_levels: int, codebook: int
) -> None:
    sids = digits(items, num_levels, codebook)
    assert sids.shape == (items, num_levels + 1)
    assert len(np.unique(sids, axis=0)) == items
    assert 0 <= sids.min() <= sids.max() < codebook


def test_every_digit_is_even_and_independent_of_the_others() -> None:
    sids = digits(30_000, 31, 4)  # 32 digits: 31 in a number, one drawn apart
    for h in range(32):
        assert np.bincount(sids[:, h], minlength=4) == pytest.approx(
            np.full(4, 7500), abs=400
        )  # 5 standard deviations
        pairs = np.bincount(sids[:, h] * 4 + sids[:, h - 1], minlength=16)
        assert pairs == pytest.approx(np.full(16, 1875), abs=220)  # likewise


def test_only_seed_and_sizes_decide() -> None:
    assert np.array_equal(digits(50, 2, 8), digits(50, 2, 8, value=1.0))
    assert not np.array_equal(digits(50, 2, 8), digits(50, 2, 8, seed=1))


def test_more_items_than_sids_are_refused() -> None:
    with pytest.raises(UserError, match="--sids 1 with --codebook 8 makes 64 SIDs, fewer than the 65 items"):
        digits(65, 1, 8)
