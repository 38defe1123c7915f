"""Narrow beams that reveal several digits at a time, against a literal search."""

from __future__ import annotations

import itertools
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.data.candidates import CandidateIndex
from pipelines.decode import bounded
from pipelines.decode.beam import beam_search, random_order
from pipelines.decode.combinations import reveal_jointly
from pipelines.decode.config import ORDERS, Decoding
from pipelines.decode.index import PartialIndex
from pipelines.decode.partial import Asked, Partial
from pipelines.models.sid.item_softmax import ItemSoftmax
from tests.decode.literal import apart, search
from tests.decode.models import TableModel, catalogue


def assert_as_literal(
    sids: np.ndarray, codes: int, decoding: Decoding, horizon: int = 1, users: int = 3, seed: int = 0
) -> None:
    """Hold a beam search over random tables against the literal one, for each user."""
    digits = sids.shape[1]
    model, numbers = TableModel(users, horizon * digits, codes, seed), torch.arange(users)
    found = beam_search(
        model, numbers, PartialIndex(sids, codes, decoding.reachable(digits)), decoding, horizon
    )
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

        wanted = search(
            logits,
            apart(logits),
            [tuple(sid) for sid in sids.tolist()],
            codes,
            decoding.unmask_schedule(horizon * digits),
            decoding.beams,
            unmask=decoding.order,
            order=order[user],
            horizon=horizon,
            constrained=decoding.constrained,
        )
        alive = found.scores[user].isfinite()
        np.testing.assert_allclose(
            found.scores[user][alive], [score for score, _ in wanted], rtol=0, atol=1e-5
        )
        assert [tuple(items) for items in found.items[user][alive].tolist()] == [items for _, items in wanted]


@settings(max_examples=150, deadline=None)
@given(
    digits=st.integers(2, 4),
    codes=st.integers(2, 6),
    items=st.integers(2, 40),
    beams=st.integers(1, 6),
    unmask=st.sampled_from(ORDERS),
    T=st.integers(1, 4),
    constrained=st.booleans(),
    few=st.sampled_from([0, 10**9]),
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
    seed: int,
) -> None:
    """Whether what the most promising beams missed is found by branch and bound or by the items."""
    decoding = Decoding(unmask=unmask, nfe=min(T, digits), beams=beams, constrained=constrained, seed=seed)
    with mock.patch.multiple(bounded, LARGE=0, FEW=few, SHARE=10**9, PAIRS=20):
        assert_as_literal(catalogue(items, digits, codes, seed), codes, decoding, seed=seed)


@settings(max_examples=40, deadline=None)
@given(
    codes=st.integers(2, 4),
    items=st.integers(2, 12),
    beams=st.integers(1, 5),
    unmask=st.sampled_from(ORDERS),
    T=st.integers(1, 4),
    constrained=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_two_items_ahead(
    codes: int, items: int, beams: int, unmask: str, T: int, constrained: bool, seed: int
) -> None:
    decoding = Decoding(unmask=unmask, nfe=T, beams=beams, constrained=constrained, seed=seed)
    assert_as_literal(catalogue(items, 2, codes, seed), codes, decoding, horizon=2, users=2, seed=seed)


@pytest.mark.parametrize("reveal", ["3,1", "1,3", "2,2"])
@pytest.mark.parametrize("unmask", ORDERS)
def test_large_groups_over_a_sparse_catalogue(unmask: str, reveal: str) -> None:
    """Most combinations are no item, so that what beams can come to is far above what they do."""
    assert_as_literal(
        catalogue(30, 4, 9, 1), 9, Decoding(unmask=unmask, unmask_counts=reveal, beams=5, seed=2), users=4
    )


def joint_model(sids: np.ndarray, codes: int, users: int, horizon: int, seed: int) -> ItemSoftmax:
    """Random vectors of items, and states that depend on every revealed digit."""
    width, digits = 6, horizon * sids.shape[1]
    generator = torch.Generator().manual_seed(seed)
    tables = torch.randn(users, digits, codes + 1, horizon, width, generator=generator)
    vectors = torch.randn(len(sids), width, generator=generator)

    def states(revealed: torch.Tensor) -> torch.Tensor:
        return tables[torch.arange(users)[:, None, None], torch.arange(digits), revealed].sum(
            2
        )  # [B, K, k, D]

    return ItemSoftmax(states, vectors, CandidateIndex(torch.as_tensor(sids), codes))


@settings(max_examples=60, deadline=None)
@given(
    digits=st.integers(2, 4),
    horizon=st.integers(1, 2),
    codes=st.integers(2, 5),
    items=st.integers(2, 25),
    beams=st.integers(1, 5),
    unmask=st.sampled_from(ORDERS),
    T=st.integers(2, 4),
    seed=st.integers(0, 10_000),
)
def test_joint_digits(
    digits: int, horizon: int, codes: int, items: int, beams: int, unmask: str, T: int, seed: int
) -> None:
    """A combination's probability is the share of the items that have it among those that agree with what was visible."""
    if horizon * digits > 4:
        digits = 2
    sids = catalogue(items, digits, codes, seed)
    decoding = Decoding(unmask=unmask, nfe=T if horizon * digits >= T else None, beams=beams, seed=seed)
    users = 2
    model, numbers = joint_model(sids, codes, users, horizon, seed), torch.arange(users)
    index = PartialIndex(sids, codes, decoding.reachable(digits))
    found = beam_search(model, numbers, index, decoding, horizon)
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
            logits = (
                (model.states(torch.tensor(partial).expand(users, 1, -1))[user, 0] @ model.vectors.T)
                .double()
                .exp()
                .numpy()
            )  # [k, N]
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
                total += np.log(logits[part][after].sum() / logits[part][before].sum())
            return np.float32(total)

        wanted = search(
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
        alive = found.scores[user].isfinite()
        np.testing.assert_allclose(
            found.scores[user][alive], [score for score, _ in wanted], rtol=0, atol=1e-4
        )
        assert [tuple(items) for items in found.items[user][alive].tolist()] == [items for _, items in wanted]


def test_joint_digits_revealed_together_are_worth_what_they_are_one_by_one() -> None:
    """Remasking needs to know of each digit how certain it was: given the digits that came before it in the same evaluation."""
    sids = catalogue(12, 3, 4, 5)
    model, nothing = joint_model(sids, 4, 2, 1, 5), torch.full((2, 1, 3), 4)
    model(nothing)
    beams, digits = (
        Partial(nothing, torch.zeros(2, 1, 3), torch.zeros(2, 1)),
        torch.tensor([[[2, 0, 1]], [[1, 2, 0]]]),
    )
    found = reveal_jointly(model, digits, beams, PartialIndex(sids, 4), Decoding(beams=6, remask=1))
    torch.testing.assert_close(found.token_log_probs.sum(2), found.scores)
    for user, beam in itertools.product(range(2), range(6)):
        partial = nothing.clone()
        for digit in digits[user, 0].tolist():
            code = int(found.codes[user, beam, digit])
            expected = model.again(partial, torch.zeros(2, 1, dtype=torch.int64))
            torch.testing.assert_close(
                found.token_log_probs[user, beam, digit], expected[user, 0, digit, code]
            )
            partial[user, 0, digit] = code


def test_no_group_of_users_is_empty() -> None:
    """Users with whom more items agree than a group holds have a group of their own."""
    sids = catalogue(40, 3, 6, 1)
    beams = Partial(torch.full((3, 1, 3), 6), torch.zeros(3, 1, 3), torch.zeros(3, 1))
    asked = Asked(torch.tensor([[[0, 1]]]).expand(3, -1, -1), torch.zeros(3, 1, 2, 6))
    with mock.patch.multiple(bounded, LARGE=0, FEW=10**9, PAIRS=7):
        rest, groups = bounded.by_items(asked, beams, torch.zeros(3), PartialIndex(sids, 6))
    assert rest.tolist() == []
    assert [group.tolist() for group in groups] == [[0], [1], [2]]
