"""The index of partial SIDs compared with a set of tuples."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from pipelines.decode.config import Decoding
from pipelines.decode.index import PartialIndex
from pipelines.errors import UserError


@pytest.mark.parametrize(("digits", "codes", "items"), [(1, 3, 2), (3, 4, 20), (5, 3, 100), (7, 2, 60)])
def test_membership_of_every_partial_sid(digits: int, codes: int, items: int) -> None:
    numbers = np.random.default_rng(0).choice(codes**digits, items, replace=False)
    sids = np.stack(np.unravel_index(numbers, (codes,) * digits), axis=1)
    index = PartialIndex(sids, codes)
    every = torch.tensor(list(itertools.product(range(codes + 1), repeat=digits)))  # V is a masked digit
    truth = [
        any(all(p in (codes, s) for p, s in zip(partial, sid, strict=True)) for sid in sids.tolist())
        for partial in every.tolist()
    ]
    assert index.valid(index.number(every)).tolist() == truth
    full = every[(every < codes).all(1)]
    of_sid = {tuple(s): i for i, s in enumerate(sids.tolist())}
    assert index.lookup(index.number(full)).tolist() == [of_sid.get(tuple(s), -1) for s in full.tolist()]


def test_only_partial_sids_that_an_order_reaches_are_built() -> None:
    sids = np.unique(np.random.default_rng(0).integers(0, 5, (200, 4)), axis=0)
    every, reached = (
        PartialIndex(sids, 5),
        PartialIndex(sids, 5, Decoding(unmask="left-to-right").reachable(4)),
    )
    distinct = [len(np.unique(sids[:, :unmasked], axis=0)) for unmasked in range(5)]
    assert len(reached.partials) == sum(distinct) < len(every.partials)
    assert reached.bytes < every.bytes
    assert bool(torch.isin(reached.partials, every.partials).all())
    for index in (every, reached):
        assert (index.partials.diff() > 0).all()
    assert Decoding(unmask="greedy").reachable(4) is Decoding(unmask="random").reachable(4) is None


def test_too_many_digits_for_an_index_are_refused() -> None:
    sids = np.eye(13, dtype=np.int64)
    with pytest.raises(UserError, match="Items of 13 digits have 2\\^13 sets of digits.*left-to-right"):
        PartialIndex(sids, 2)
    assert len(PartialIndex(sids[:, :12], 2).partials) <= 13 * 2**12
    assert PartialIndex(sids, 2, Decoding(unmask="left-to-right").reachable(13)).lookup(
        torch.tensor([0])
    ).tolist() == [-1]


def test_a_number_that_does_not_fit_is_refused() -> None:
    with pytest.raises(
        UserError,
        match="of 8 digits of 256 codes have more partial SIDs than a 64-bit number can count.*"
        "maskgr tokenize --sids",
    ):
        PartialIndex(np.zeros((1, 8), dtype=np.int64), 256)
    assert PartialIndex(np.full((1, 7), 255), 256).lookup(torch.tensor([257**7 // 256 * 255])).tolist() == [
        0
    ]  # the largest number of digits that fits
