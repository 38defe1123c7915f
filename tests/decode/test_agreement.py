"""The index that looks for agreeing items against the index of all partial SIDs, and against the exhaustive
scorer where semantic IDs are too long for that one."""

from __future__ import annotations

import itertools
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.decode import agreement
from pipelines.decode.agreement import AgreementIndex, ranks
from pipelines.decode.beam import beam_search
from pipelines.decode.config import ORDERS, UNMASKINGS, Decoding
from pipelines.decode.exhaustive import score_every_item
from pipelines.decode.index import PartialIndex
from pipelines.models.denoiser import Denoiser
from tests.decode.models import TableModel, catalogue
from tests.decode.test_narrow import item_softmax


@settings(max_examples=30, deadline=None)
@given(
    digits=st.integers(1, 5),
    codes=st.integers(1, 5),
    items=st.integers(1, 40),
    seed=st.integers(0, 999),
)
def test_both_indices_answer_the_same(digits: int, codes: int, items: int, seed: int) -> None:
    """Of every partial SID: a key that orders it, the item, and whether it is valid for each user."""
    sids, rng = catalogue(items, digits, codes, seed), np.random.default_rng(seed)
    some = np.flatnonzero(rng.random(len(sids)) < 0.7) if len(sids) > 3 and seed % 2 else None
    some = None if some is None or not len(some) else some
    short, long = PartialIndex(sids, codes, None, some), AgreementIndex(sids, codes, some)
    every = torch.tensor(list(itertools.product(range(codes + 1), repeat=digits)))
    every = every[torch.as_tensor(rng.permutation(len(every))[:300])]
    users, left_out = (torch.as_tensor(a) for a in np.nonzero(rng.random((3, len(sids))) < [[0], [0.5], [1]]))
    owners = torch.arange(3)[:, None]
    for one, other in ((short, long), (short.excluding(users, left_out), long.excluding(users, left_out))):
        first, second = one.keys(every).expand(3, -1), other.keys(every).expand(3, -1, -1)
        assert torch.equal(one.valid(first, owners), other.valid(second, owners))
        assert torch.equal(one.lookup(first), other.lookup(second))
        assert torch.equal(one.codes_of(first), other.codes_of(second))
        for numbers in (one.numbers(first), other.numbers(second)):
            assert torch.equal(numbers[0].argsort(), one.keys(every).argsort())
    assert long.bytes == long.sids.nbytes + 12 * long.sids.numel()


@settings(max_examples=80, deadline=None)
@given(
    digits=st.integers(1, 5),
    codes=st.integers(2, 6),
    items=st.integers(2, 40),
    beams=st.integers(1, 6),
    horizon=st.sampled_from([1, 1, 2]),
    unmask=st.sampled_from(UNMASKINGS),
    T=st.integers(1, 5),
    remask=st.sampled_from([0, 0, 2]),
    constrained=st.sampled_from([True, True, True, False]),
    softmax=st.booleans(),
    part=st.booleans(),
    excluding=st.booleans(),
    cells=st.sampled_from([1, 1 << 24]),
    seed=st.integers(0, 10_000),
)
def test_both_indices_lead_to_the_same_beams(
    digits: int,
    codes: int,
    items: int,
    beams: int,
    horizon: int,
    unmask: str,
    T: int,
    remask: int,
    constrained: bool,
    softmax: bool,
    part: bool,
    excluding: bool,
    cells: int,
    seed: int,
) -> None:
    """Every order and T, remasking, one and two items, filters, and items left out for single users."""
    if unmask == "confidence" or remask:
        horizon = 1
    if unmask == "confidence" and softmax:
        remask = 0  # equally good paths to a partial SID may leave other digits uncertain
    sids, rng = catalogue(items, digits, codes, seed), np.random.default_rng(seed)
    some = np.sort(rng.choice(len(sids), 1 + len(sids) // 2, replace=False)) if part else None
    users, found = torch.arange(3), []
    decoding = Decoding(
        unmask=unmask,
        nfe=min(T, digits),
        beams=beams,
        remask=remask,
        constrained=constrained,
        nearest=not constrained and bool(seed % 2),
        seed=seed,
    )
    pairs = tuple(torch.as_tensor(side) for side in np.nonzero(rng.random((3, len(sids))) < 0.4))
    for kind in (PartialIndex, AgreementIndex):
        model: Denoiser = TableModel(3, horizon * digits, codes, seed)
        if softmax:
            model = item_softmax(sids, codes, 3, horizon, seed)
        index = kind(sids, codes, items=some)
        if excluding and constrained:
            index = index.excluding(*pairs)
        with mock.patch.object(agreement, "CELLS", cells):
            found.append(beam_search(model, users, index, decoding, horizon))
    width = min(len(result.scores[0]) for result in found)  # further beams do not exist
    one, other = found[0].first(width), found[1].first(width)
    assert torch.equal(one.items, other.items)
    torch.testing.assert_close(one.scores, other.scores)
    assert torch.equal(one.duplicates, other.duplicates)
    assert all(result.scores[:, width:].isneginf().all() for result in found)


@pytest.mark.parametrize(
    ("digits", "codes", "unmask"),
    [
        *((digits, codes, unmask) for digits, codes in ((8, 256), (16, 300)) for unmask in ORDERS),
        (9, 2, "greedy"),
        (32, 256, "greedy"),
        (32, 256, "random"),
        (70, 5, "left-to-right"),
    ],
)
def test_a_beam_as_wide_as_the_catalogue_is_exact(digits: int, codes: int, unmask: str) -> None:
    """With one function evaluation per digit and with few; users who may get all items, or some."""
    sids, users = catalogue(30, digits, codes, digits), torch.arange(3)
    sids[:, digits // 2] = 0  # the same code for all items
    seen = torch.tensor([1, 1, 1, 2]), torch.tensor([3, 7, 29, 0])
    for T in (2, digits // 2, min(digits, 32)):
        model = TableModel(3, digits, codes, T)
        decoding = Decoding(unmask=unmask, nfe=T, beams=len(sids) + 2, seed=T)
        index = AgreementIndex(sids, codes)
        scores = score_every_item(model, users, index, decoding)
        for excluded in ((users[:0], users[:0]), seen):
            expected, items = scores.index_put(excluded, torch.tensor(-torch.inf)).sort(descending=True)
            result = beam_search(model, users, index.excluding(*excluded), decoding)
            alive = expected.isfinite()
            torch.testing.assert_close(result.scores[:, : len(sids)], expected, atol=1e-3, rtol=1e-5)
            assert torch.equal(result.items[:, : len(sids), 0][alive], items[alive])
            assert (result.items[:, len(sids) :] == -1).all()


def test_ranks_order_rows_like_words() -> None:
    rows = torch.randint(4, (200, 40), generator=torch.Generator().manual_seed(0))
    rows[:, :35] = 3
    rows = torch.cat((rows, rows[:50]))
    numbers = ranks(rows, 4)
    order = sorted(range(len(rows)), key=lambda i: rows[i].tolist())
    assert numbers.argsort(stable=True).tolist() == order
    assert len(numbers.unique()) == len(rows.unique(dim=0))
