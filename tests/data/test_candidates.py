"""The candidate index against a search through all items, and the orders that serve all sets of digits."""

from __future__ import annotations

from math import comb

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.data.candidates import CandidateIndex, prefix_order


@pytest.mark.parametrize("digits", range(1, 11))
def test_few_orders_serve_all_sets_of_digits(digits: int) -> None:
    """Each set begins its order, and there are as many orders as sets of the middle size."""
    orders = set()
    for subset in range(2**digits):
        order = prefix_order(subset, digits)
        chosen = {digit for digit in range(digits) if subset >> digit & 1}
        assert set(order[: len(chosen)]) == chosen
        assert sorted(order) == list(range(digits))
        orders.add(order)
    assert len(orders) == comb(digits, digits // 2)


@settings(max_examples=50, deadline=None)
@given(
    items=st.integers(1, 60),
    digits=st.integers(1, 6),
    codes=st.integers(1, 5),
    seed=st.integers(0, 1000),
    dtype=st.sampled_from([torch.int16, torch.int32, torch.int64]),
)
def test_the_items_that_agree_are_those_with_the_same_visible_digits(
    items: int, digits: int, codes: int, seed: int, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(seed)
    sids = torch.randint(codes, (items, digits), generator=generator)
    partial = torch.randint(codes + 1, (40, digits), generator=generator)
    index = CandidateIndex(sids.to(dtype), codes)
    agree = ((partial[:, None] == codes) | (partial[:, None] == sids)).all(2)  # [40, items]
    rows, found = index.pairs(partial)
    assert torch.equal(torch.stack((rows, found), 1).unique(dim=0), agree.nonzero())
    assert len(rows) == agree.sum()
    assert torch.equal(index.counts(partial), agree.sum(1))


def test_the_index_grows_by_twelve_bytes_an_item_and_order() -> None:
    sids = torch.randint(4, (100, 5))
    index = CandidateIndex(sids, 4)
    assert index.bytes == 0
    every_set = torch.tensor([[4 if subset >> h & 1 else 0 for h in range(5)] for subset in range(32)])
    index.counts(every_set)
    assert index.bytes == CandidateIndex.complete_bytes(100, 5) == 10 * 12 * 100


def test_numbers_beyond_64_bits_are_refused() -> None:
    with pytest.raises(ValueError, match="8 digits of 256 codes"):
        CandidateIndex(torch.zeros((1, 8), dtype=torch.int64), 256)
