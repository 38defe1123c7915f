"""Beam search compared with exhaustive scoring: every order, every T, constrained and unconstrained."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from pipelines.decode.beam import Beams, beam_search, random_order
from pipelines.decode.config import CONFIDENCE, ORDERS, UNMASKINGS, Decoding
from pipelines.decode.index import PartialIndex
from pipelines.errors import UserError
from pipelines.models.denoiser import IndependentDigits
from tests.decode.paths import paths


class RandomModel(IndependentDigits):
    """A denoiser whose log-probabilities are seeded by the user and the partial SID.

    Attributes:
        evaluations: number of function evaluations so far.
    """

    def __init__(self, users: int, digits: int, codes: int) -> None:
        super().__init__(self._random)
        self.users, self.digits, self.codes, self.evaluations = users, digits, codes, 0

    def one(self, user: int, partial: tuple[int, ...]) -> np.ndarray:
        """Return the log-probabilities [H, V] of a partial SID of one user."""
        rng = np.random.default_rng([user, *partial])
        logits = rng.normal(size=(self.digits, self.codes)).astype(np.float32) * 2
        return torch.as_tensor(logits).log_softmax(-1).numpy()

    def _random(self, codes: torch.Tensor) -> torch.Tensor:
        self.evaluations += 1
        tables = [[self.one(u, tuple(beam)) for beam in beams] for u, beams in enumerate(codes.tolist())]
        return torch.as_tensor(np.array(tables))


def catalogue(items: int, digits: int, codes: int, seed: int = 0) -> np.ndarray:
    """Return distinct random SIDs [N, H]."""
    numbers = np.random.default_rng(seed).choice(codes**digits, items, replace=False)
    return np.stack(np.unravel_index(numbers, (codes,) * digits), axis=1)


def run(model: RandomModel, sids: np.ndarray, decoding: Decoding) -> Beams:
    return beam_search(model, torch.arange(model.users), PartialIndex(sids, model.codes), decoding)


def oracle(model: RandomModel, user: int, decoding: Decoding) -> dict[tuple[int, ...], float]:
    """Return the best score of every SID for a user."""
    order = (
        random_order(torch.arange(model.users), model.digits, decoding.seed)[user].tolist()
        if decoding.order == "random"
        else None
    )
    return paths(
        lambda partial: model.one(user, partial),
        decoding.order,
        decoding.unmask_schedule(model.digits),
        order,
        model.digits,
        model.codes,
    )


@pytest.mark.parametrize("unmask", UNMASKINGS)
@pytest.mark.parametrize(("digits", "codes"), [(1, 5), (2, 4), (3, 3), (4, 2)])
@pytest.mark.parametrize("constrained", [True, False])
def test_a_beam_as_wide_as_the_space_is_exhaustive(
    unmask: str, digits: int, codes: int, constrained: bool
) -> None:
    sids = catalogue(max(2, codes**digits // 2), digits, codes)
    of_sid = {tuple(s): i for i, s in enumerate(sids.tolist())}
    beams, evaluations = codes**digits, [*range(1, digits + 1)]
    if unmask == CONFIDENCE:
        # All partial SIDs compete. Of beams that become equal in an evaluation the better one continues.
        beams, evaluations = (codes + 1) ** digits, sorted({1, digits})
    for T in evaluations:
        decoding = Decoding(unmask=unmask, nfe=T, beams=beams, constrained=constrained, seed=3)
        model = RandomModel(3, digits, codes)
        result = run(model, sids, decoding)
        assert model.evaluations == T
        for user in range(3):
            truth = oracle(model, user, decoding)
            ranked = sorted(((score, of_sid.get(sid, -1)) for sid, score in truth.items()), reverse=True)
            if constrained:
                ranked = [entry for entry in ranked if entry[1] >= 0]
            alive = result.scores[user].isfinite()
            assert result.items[user, alive, 0].tolist() == [item for _, item in ranked]
            np.testing.assert_allclose(result.scores[user][alive], [score for score, _ in ranked], atol=1e-5)
            assert (result.items[user, ~alive] == -1).all()


@pytest.mark.parametrize("unmask", UNMASKINGS)
def test_narrow_beams_return_distinct_items_of_the_catalogue(unmask: str) -> None:
    sids = catalogue(12, 4, 6)
    for T in range(1, 5):
        result = run(RandomModel(5, 4, 6), sids, Decoding(unmask=unmask, nfe=T, beams=5))
        for items, scores in zip(result.items.squeeze(2).tolist(), result.scores, strict=True):
            real = [i for i in items if i >= 0]
            assert len(set(real)) == len(real) > 0
            assert (scores[1:] <= scores[:-1]).all()  # places without a beam, with −inf, come last
        assert (result.invalid == 0).all()
        assert (result.duplicates == 0).all()


def test_one_evaluation_over_several_digits_finds_the_best_combinations() -> None:
    """With T = 1, unconstrained, the K beams are the K best of all V^H, although K is far below V^H."""
    model = RandomModel(4, 3, 8)
    result = run(model, catalogue(100, 3, 8), Decoding(nfe=1, beams=10, constrained=False))
    for user in range(4):
        best = sorted(oracle(model, user, Decoding(nfe=1)).values(), reverse=True)[:10]
        np.testing.assert_allclose(result.scores[user], best, atol=1e-5)


@pytest.mark.parametrize("unmask", ORDERS)
@pytest.mark.parametrize("constrained", [True, False])
def test_two_items_together_against_every_pair(unmask: str, constrained: bool) -> None:
    """k = 2 items of H = 2 digits and every T from 1 to k·H: all pairs, with their best scores."""
    H, V, k = 2, 3, 2
    sids = catalogue(5, H, V)
    of_sid = {tuple(s): i for i, s in enumerate(sids.tolist())}
    for T in range(1, k * H + 1):
        decoding = Decoding(unmask=unmask, nfe=T, beams=V ** (k * H), constrained=constrained, seed=3)
        model = RandomModel(2, k * H, V)
        result = beam_search(model, torch.arange(2), PartialIndex(sids, V), decoding, horizon=k)
        assert model.evaluations == T
        for user in range(2):
            truth = oracle(model, user, decoding)
            pairs = [
                (score, of_sid.get(sid[:H], -1), of_sid.get(sid[H:], -1)) for sid, score in truth.items()
            ]
            ranked = sorted((p for p in pairs if not constrained or min(p[1:]) >= 0), reverse=True)
            alive = result.scores[user].isfinite()
            np.testing.assert_allclose(result.scores[user, alive], [p[0] for p in ranked], atol=1e-5)
            assert result.items[user, alive].tolist() == [list(p[1:]) for p in ranked]
        assert (result.invalid == (0 if constrained else V ** (k * H) - len(sids) ** 2)).all()
        assert (result.duplicates == 0).all()


@pytest.mark.parametrize("constrained", [True, False])
@pytest.mark.parametrize("T", [1, 2, 3])
def test_remasking_against_plain_python(constrained: bool, T: int) -> None:
    """Every SID keeps its best walk; each remasking decides anew the digit of a walk with the least
    log-probability.
    """
    H, V, remask = 3, 3, 3
    sids = catalogue(11, H, V)
    of_sid = {tuple(s): i for i, s in enumerate(sids.tolist())}
    model = RandomModel(2, H, V)
    decoding = Decoding(unmask="left-to-right", nfe=T, beams=V**H, constrained=constrained, remask=remask)
    result = run(model, sids, decoding)
    assert model.evaluations == T + remask
    for user in range(2):
        walks = {}
        for sid in itertools.product(range(V), repeat=H):
            token_log_probs, partial = {}, [V] * H
            for start, stop in itertools.pairwise([0, *itertools.accumulate(decoding.unmask_schedule(H))]):
                logp = model.one(user, tuple(partial))
                for h in range(start, stop):
                    token_log_probs[h], partial[h] = float(logp[h, sid[h]]), sid[h]
            if not constrained or sid in of_sid:
                walks[sid] = token_log_probs
        for _ in range(remask):
            better: dict[tuple, dict] = {}
            for sid, token_log_probs in walks.items():
                worst = min(token_log_probs, key=token_log_probs.get)
                logp = model.one(user, tuple(V if h == worst else c for h, c in enumerate(sid)))
                for code in range(V):
                    child = tuple(code if h == worst else c for h, c in enumerate(sid))
                    new = {**token_log_probs, worst: float(logp[worst, code])}
                    if (not constrained or child in of_sid) and sum(new.values()) > sum(
                        better.get(child, {0: -1e9}).values()
                    ):
                        better[child] = new
            walks = better
        ranked = sorted(
            ((sum(token_log_probs.values()), of_sid.get(sid, -1)) for sid, token_log_probs in walks.items()),
            reverse=True,
        )
        alive = result.scores[user].isfinite()
        np.testing.assert_allclose(result.scores[user, alive], [score for score, _ in ranked], atol=1e-4)
        assert result.items[user, alive, 0].tolist() == [item for _, item in ranked]
        assert result.duplicates[user] == 0


def test_unconstrained_beams_that_are_no_item_keep_their_rank() -> None:
    sids = catalogue(3, 2, 4)
    result = run(RandomModel(2, 2, 4), sids, Decoding(beams=16, constrained=False))
    assert result.invalid.tolist() == [13, 13]
    assert (result.items >= 0).sum((1, 2)).tolist() == [3, 3]


def test_the_random_order_depends_on_the_user_not_on_the_batch() -> None:
    everyone = random_order(torch.arange(50), 5, seed=1)
    assert torch.equal(random_order(torch.tensor([7, 3]), 5, seed=1), everyone[[7, 3]])
    assert not torch.equal(random_order(torch.arange(50), 5, seed=2), everyone)
    assert torch.equal(everyone.sort(1).values, torch.arange(5).expand(50, 5))


def test_an_unmask_schedule_is_as_even_as_possible() -> None:
    assert [Decoding(nfe=T).unmask_schedule(5) for T in (1, 2, 3, 4, 5)] == [
        (5,),
        (2, 3),
        (1, 2, 2),
        (1, 1, 1, 2),
        (1,) * 5,
    ]
    assert Decoding().unmask_schedule(4) == (1, 1, 1, 1)
    with pytest.raises(UserError, match="--nfe 6 is more than the 5 digits"):
        Decoding(nfe=6).unmask_schedule(5)
    assert Decoding(unmask_counts="3,2").unmask_schedule(5) == (3, 2)
    assert Decoding(unmask_counts="3,2", nfe=2).name == "greedy-r3-2-k20-constrained"
    for decoding in (Decoding(unmask_counts="3,1"), Decoding(unmask_counts="3,2", nfe=3)):
        with pytest.raises(UserError, match="must add up to the 5 digits"):
            decoding.unmask_schedule(5)
    for wrong in (
        {"unmask": "upwards"},
        {"beams": 0},
        {"nfe": 0},
        {"unmask_counts": "1,0"},
        {"unmask_counts": "2;3"},
    ):
        with pytest.raises(UserError):
            Decoding(**wrong)
