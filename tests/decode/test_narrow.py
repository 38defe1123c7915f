"""Narrow beams that unmask several digits per function evaluation, compared with a search in plain Python."""

from __future__ import annotations

import itertools
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.data.windows import candidate_index
from pipelines.decode import bounded
from pipelines.decode.agreement import AgreementIndex
from pipelines.decode.beam import beam_search, random_order
from pipelines.decode.build_index import build_index
from pipelines.decode.combinations import unmask_item_softmax
from pipelines.decode.config import ORDERS, Decoding
from pipelines.decode.index import PartialIndex
from pipelines.decode.state import BeamState, Unmasking
from pipelines.models.sid.item_softmax import ItemSoftmax
from pipelines.models.sid.output_vectors import OutputVectors
from tests.decode.literal import independent, search
from tests.decode.models import TableModel, catalogue


def assert_same_as_literal(
    sids: np.ndarray,
    codes: int,
    decoding: Decoding,
    horizon: int = 1,
    users: int = 3,
    seed: int = 0,
    long: bool = False,
) -> None:
    """Compare a beam search over random tables with the search in plain Python, for each user."""
    digits = sids.shape[1]
    model, numbers = TableModel(users, horizon * digits, codes, seed), torch.arange(users)
    index = AgreementIndex(sids, codes) if long else PartialIndex(sids, codes, decoding.reachable(digits))
    result = beam_search(model, numbers, index, decoding, horizon)
    order = (
        random_order(numbers, horizon * digits, decoding.seed).tolist()
        if decoding.order == "random"
        else [None] * users
    )
    for user in range(users):
        known: dict[tuple[int, ...], np.ndarray] = {}

        def logits(partial: tuple[int, ...], user: int = user, known: dict = known) -> np.ndarray:
            if partial not in known:
                known[partial] = model(torch.tensor(partial).expand(users, 1, -1))[user, 0].numpy()
            return known[partial]

        expected = search(
            logits,
            independent(logits),
            [tuple(sid) for sid in sids.tolist()],
            codes,
            decoding.unmask_schedule(horizon * digits),
            decoding.beams,
            unmask=decoding.order,
            order=order[user],
            horizon=horizon,
            constrained=decoding.constrained,
        )
        alive = result.scores[user].isfinite()
        np.testing.assert_allclose(
            result.scores[user][alive], [score for score, _ in expected], rtol=1e-6, atol=1e-5
        )
        assert [tuple(items) for items in result.items[user][alive].tolist()] == [
            items for _, items in expected
        ]


@settings(max_examples=150, deadline=None)
@given(
    digits=st.integers(2, 4),
    codes=st.integers(2, 6),
    items=st.integers(2, 40),
    beams=st.integers(1, 6),
    unmask=st.sampled_from(ORDERS),
    T=st.integers(1, 4),
    constrained=st.booleans(),
    few=st.sampled_from([0, 10**9]),  # 0: by branch and bound; else from the items
    long=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_the_beams_kept_are_the_best(
    digits: int,
    codes: int,
    items: int,
    beams: int,
    unmask: str,
    T: int,
    constrained: bool,
    few: int,
    long: bool,
    seed: int,
) -> None:
    """Beams that the most promising ones miss are result by branch and bound, or from the items."""
    decoding = Decoding(unmask=unmask, nfe=min(T, digits), beams=beams, constrained=constrained, seed=seed)
    with mock.patch.multiple(bounded, LARGE_CATALOG=0, FEW_ITEMS=few, SHARE=10**9, PAIRS=20):
        assert_same_as_literal(catalogue(items, digits, codes, seed), codes, decoding, seed=seed, long=long)


@settings(max_examples=40, deadline=None)
@given(
    codes=st.integers(2, 4),
    items=st.integers(2, 12),
    beams=st.integers(1, 5),
    unmask=st.sampled_from(ORDERS),
    T=st.integers(1, 4),
    constrained=st.booleans(),
    long=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_two_items_together(
    codes: int, items: int, beams: int, unmask: str, T: int, constrained: bool, long: bool, seed: int
) -> None:
    sids = catalogue(items, 2, codes, seed)
    decoding = Decoding(unmask=unmask, nfe=T, beams=beams, constrained=constrained, seed=seed)
    assert_same_as_literal(sids, codes, decoding, horizon=2, users=2, seed=seed, long=long)


@settings(max_examples=30, deadline=None)
@given(
    digits=st.sampled_from([8, 9, 16, 32]),
    codes=st.sampled_from([2, 300]),
    items=st.integers(2, 40),
    beams=st.integers(1, 6),
    unmask=st.sampled_from(ORDERS),
    T=st.sampled_from([2, 3, 8]),
    horizon=st.sampled_from([1, 1, 2]),
    seed=st.integers(0, 10_000),
)
def test_long_semantic_ids(
    digits: int, codes: int, items: int, beams: int, unmask: str, T: int, horizon: int, seed: int
) -> None:
    """More digits than a 64-bit number counts; many items share their first digits."""
    decoding = Decoding(unmask=unmask, nfe=T, beams=beams, seed=seed)
    sids = catalogue(items if horizon == 1 else min(items, 12), digits, codes, seed)
    sids[:, :3] //= 1 + codes // 4
    assert_same_as_literal(sids, codes, decoding, horizon, users=2, seed=seed, long=True)


@pytest.mark.parametrize("counts", ["3,1", "1,3", "2,2"])
@pytest.mark.parametrize("unmask", ORDERS)
def test_large_unmask_counts_over_a_sparse_catalogue(unmask: str, counts: str) -> None:
    """Most combinations are no item, so that the bounds of the beams are far above their scores."""
    assert_same_as_literal(
        catalogue(30, 4, 9, 1), 9, Decoding(unmask=unmask, unmask_counts=counts, beams=5, seed=2), users=4
    )


def item_softmax(sids: np.ndarray, codes: int, users: int, horizon: int, seed: int) -> ItemSoftmax:
    """Return an item softmax with random item vectors and states that depend on every unmasked digit."""
    width, digits = 6, horizon * sids.shape[1]
    generator = torch.Generator().manual_seed(seed)
    tables = torch.randn(users, digits, codes + 1, horizon, width, generator=generator)
    vectors = torch.randn(len(sids), width, generator=generator)

    def states(partial: torch.Tensor) -> torch.Tensor:
        user = torch.arange(users)[:, None, None]
        return tables[user, torch.arange(digits), partial].sum(2)  # [B, K, k, D]

    w = OutputVectors(torch.as_tensor(sids), None, vectors)
    return ItemSoftmax(states, w, candidate_index(w.sids, codes))


@settings(max_examples=60, deadline=None)
@given(
    digits=st.sampled_from([2, 3, 4, 9, 32]),
    horizon=st.integers(1, 2),
    codes=st.integers(2, 5),
    items=st.integers(2, 25),
    beams=st.integers(1, 5),
    unmask=st.sampled_from(ORDERS),
    T=st.integers(2, 4),
    seed=st.integers(0, 10_000),
)
def test_the_item_softmax(
    digits: int, horizon: int, codes: int, items: int, beams: int, unmask: str, T: int, seed: int
) -> None:
    """The probability of a combination is the share of the items that have it, among the items that agree
    with the visible digits.
    """
    if horizon * digits > 4 and digits <= 4:
        digits = 2
    if digits > 4 and unmask == "greedy":  # digits that tell the same items apart tie but for rounding
        unmask = "left-to-right"
    sids = catalogue(items, digits, codes, seed)
    decoding = Decoding(unmask=unmask, nfe=T if horizon * digits >= T else None, beams=beams, seed=seed)
    users = 2
    model, numbers = item_softmax(sids, codes, users, horizon, seed), torch.arange(users)
    index = build_index(sids, codes, decoding.reachable(digits))
    result = beam_search(model, numbers, index, decoding, horizon)
    order = (
        random_order(numbers, horizon * digits, decoding.seed).tolist()
        if unmask == "random"
        else [None] * users
    )
    for user in range(users):

        def logits(partial: tuple[int, ...], user: int = user) -> np.ndarray:
            return model(torch.tensor(partial).expand(users, 1, -1))[user, 0].numpy()

        def token_log_prob(
            partial: tuple[int, ...], chosen: list[int], values: tuple[int, ...], user: int = user
        ) -> np.float32:
            states = model.states(torch.tensor(partial).expand(users, 1, -1))[user, 0]  # [k, D]
            shares = (states @ model.vectors.own.T).double().exp().numpy()  # [k, N]
            child = {**dict(enumerate(partial)), **dict(zip(chosen, values, strict=True))}
            total = 0.0
            for part in range(horizon):
                before, after = (
                    np.all([(c == codes) | (sids[:, h] == c) for h, c in enumerate(p)], axis=0)
                    for p in (
                        partial[part * digits : (part + 1) * digits],
                        [child[part * digits + h] for h in range(digits)],
                    )
                )
                total += np.log(shares[part][after].sum() / shares[part][before].sum())
            return np.float32(total)

        expected = search(
            logits,
            token_log_prob,
            [tuple(sid) for sid in sids.tolist()],
            codes,
            decoding.unmask_schedule(horizon * digits),
            beams,
            unmask=unmask,
            order=order[user],
            horizon=horizon,
        )
        alive = result.scores[user].isfinite()
        np.testing.assert_allclose(
            result.scores[user][alive], [score for score, _ in expected], rtol=0, atol=1e-4
        )
        assert [tuple(items) for items in result.items[user][alive].tolist()] == [
            items for _, items in expected
        ]


def test_digits_unmasked_together_score_the_same_as_one_by_one() -> None:
    """Remasking needs the log-probability of each digit given the digits before it in the same evaluation."""
    sids = catalogue(12, 3, 4, 5)
    model, masked = item_softmax(sids, 4, 2, 1, 5), torch.full((2, 1, 3), 4)
    model(masked)
    beams = BeamState(masked, torch.zeros(2, 1, 3), torch.zeros(2, 1))
    digits = torch.tensor([[[2, 0, 1]], [[1, 2, 0]]])
    index, decoding = PartialIndex(sids, 4), Decoding(beams=6, remask=1)
    result = unmask_item_softmax(model, model.agreeing(masked), digits, beams, index, decoding)
    torch.testing.assert_close(result.token_log_probs.sum(2), result.scores)
    for user, beam in itertools.product(range(2), range(6)):
        partial = masked.clone()
        for digit in digits[user, 0].tolist():
            code = int(result.codes[user, beam, digit])
            refined = model.refine(partial, torch.zeros(2, 1, dtype=torch.int64))
            torch.testing.assert_close(
                result.token_log_probs[user, beam, digit], refined[user, 0, digit, code]
            )
            partial[user, 0, digit] = code


def test_every_group_of_users_holds_a_user() -> None:
    """A user with more agreeing items than a group holds is in a group alone."""
    sids = catalogue(40, 3, 6, 1)
    beams = BeamState(torch.full((3, 1, 3), 6), torch.zeros(3, 1, 3), torch.zeros(3, 1))
    unmasking = Unmasking(torch.tensor([[[0, 1]]]).expand(3, -1, -1), torch.zeros(3, 1, 2, 6))
    with mock.patch.multiple(bounded, LARGE_CATALOG=0, FEW_ITEMS=10**9, PAIRS=7):
        rest, groups = bounded.choose_search(unmasking, beams, torch.zeros(3), PartialIndex(sids, 6))
    assert rest.tolist() == []
    assert [group.tolist() for group in groups] == [[0], [1], [2]]
