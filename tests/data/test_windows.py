"""The candidate index of long semantic IDs against a search through all items."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.data import windows
from pipelines.data.candidates import CandidateIndex
from pipelines.data.windows import WindowIndex, candidate_index, complete_bytes


@settings(max_examples=60, deadline=None)
@given(
    items=st.integers(1, 60),
    digits=st.sampled_from([1, 2, 5, 8, 9, 16, 33, 70]),
    codes=st.sampled_from([1, 2, 5, 300, 32_767]),
    used=st.integers(1, 300),
    masked=st.floats(0, 1),
    pairs=st.sampled_from([3, 1 << 20]),
    seed=st.integers(0, 1000),
)
def test_the_items_that_agree_are_those_with_the_same_visible_digits(
    items: int, digits: int, codes: int, used: int, masked: float, pairs: int, seed: int
) -> None:
    """Windows that hold all digits, or few of them; codes that few or all items share."""
    generator = torch.Generator().manual_seed(seed)
    sids = torch.randint(min(codes, used), (items, digits), generator=generator)
    near = sids[torch.randint(items, (40,), generator=generator)]
    partial = near.masked_fill(torch.rand(near.shape, generator=generator) < masked, codes)
    partial[:5, :1] = codes - 1
    agree = ((partial[:, None] == codes) | (partial[:, None] == sids)).all(2)  # [40, items]
    index = WindowIndex(sids.int(), codes)
    with mock.patch.object(windows, "PAIRS", pairs):
        rows, found = index.pairs(partial)
        counts = index.counts(partial)
    assert torch.equal(torch.stack((rows, found), 1).unique(dim=0), agree.nonzero())
    assert len(rows) == agree.sum()
    assert torch.equal(counts, agree.sum(1))


def test_an_order_for_each_digit_of_twelve_bytes_an_item() -> None:
    sids = torch.randint(256, (100, 9))
    index = candidate_index(sids, 256)
    assert index.bytes == 0
    index.counts(torch.eye(9, dtype=torch.int64) * -256 + 256)  # one unmasked digit each
    assert index.bytes == complete_bytes(100, 9, 256) == 9 * 12 * 100


@pytest.mark.parametrize(
    ("digits", "codes", "kind"),
    [(7, 256, CandidateIndex), (8, 256, WindowIndex), (8, 127, CandidateIndex), (9, 2, WindowIndex)],
)
def test_the_index_is_chosen_by_the_length_of_the_semantic_ids(
    digits: int, codes: int, kind: type[CandidateIndex]
) -> None:
    assert type(candidate_index(torch.zeros((1, digits), dtype=torch.int64), codes)) is kind
