"""The index of partial SIDs compared with a set of tuples."""

from __future__ import annotations

import itertools
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.decode import index as index_module
from pipelines.decode.agreement import AgreementIndex
from pipelines.decode.build_index import build_index
from pipelines.decode.config import Decoding
from pipelines.decode.index import PartialIndex, every_subset
from pipelines.decode.sid_index import SidIndex
from tests.decode.models import catalogue


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
    assert index.valid(index.keys(every)).tolist() == truth
    full = every[(every < codes).all(1)]
    of_sid = {tuple(s): i for i, s in enumerate(sids.tolist())}
    assert index.lookup(index.keys(full)).tolist() == [of_sid.get(tuple(s), -1) for s in full.tolist()]


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


def test_a_number_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="8 digits of 256 codes"):
        PartialIndex(np.zeros((1, 8), dtype=np.int64), 256)
    assert PartialIndex(np.full((1, 7), 255), 256).lookup(torch.tensor([257**7 // 256 * 255])).tolist() == [
        0
    ]  # the largest number of digits that fits


@pytest.mark.parametrize(
    ("digits", "codes", "unmask", "kind"),
    [
        (7, 256, "greedy", PartialIndex),
        (8, 256, "left-to-right", AgreementIndex),
        (8, 100, "greedy", PartialIndex),
        (9, 100, "greedy", AgreementIndex),
        (9, 100, "left-to-right", PartialIndex),
    ],
)
def test_the_index_is_chosen_by_the_length_of_the_semantic_ids(
    digits: int, codes: int, unmask: str, kind: type[SidIndex]
) -> None:
    sids = np.zeros((1, digits), dtype=np.int64)
    assert type(build_index(sids, codes, Decoding(unmask=unmask).reachable(digits))) is kind


@settings(max_examples=40, deadline=None)
@given(
    digits=st.integers(1, 5),
    codes=st.integers(1, 5),
    items=st.integers(1, 40),
    seed=st.integers(0, 999),
    reached=st.booleans(),
)
def test_tables_and_sorts_find_the_same_partial_sids(
    digits: int, codes: int, items: int, seed: int, reached: bool
) -> None:
    sids = catalogue(items, digits, codes, seed)
    subsets = Decoding(unmask="left-to-right").reachable(digits) if reached else None
    found = []
    for share in (0, 2, 10**9):
        with mock.patch.object(index_module, "TABULATED", share):
            found.append(PartialIndex(sids, codes, subsets).partials)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    every = itertools.product(sids.tolist(), subsets or every_subset(digits))
    expected = {tuple(c if h in subset else codes for h, c in enumerate(sid)) for sid, subset in every}
    numbers = PartialIndex(sids, codes).keys(torch.tensor(sorted(expected)))
    assert found[0].tolist() == sorted(numbers.tolist())


def test_partial_sids_whose_items_are_all_excluded_are_not_valid() -> None:
    """A partial SID is valid for a user if an item agrees with it that the user may get."""
    sids, rng = catalogue(25, 3, 3, 2), np.random.default_rng(0)
    index = PartialIndex(sids, 3)
    users, items = np.nonzero(rng.random((3, len(sids))) < [[0.0], [0.5], [1.0]])
    excluding = index.excluding(torch.as_tensor(users), torch.as_tensor(items))
    every = np.array(list(itertools.product(range(4), repeat=3)))
    for user in range(3):
        left = np.setdiff1d(np.arange(len(sids)), items[users == user])
        truth = [((partial == 3) | (partial == sids[left])).all(1).any() for partial in every]
        numbers = index.keys(torch.as_tensor(every))
        assert excluding.valid(numbers, torch.full((len(every),), user)).tolist() == truth
