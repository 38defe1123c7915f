"""Soft targets against formulas written out item by item."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from pipelines.data.candidates import CandidateIndex
from pipelines.models.base import Recommender
from pipelines.models.causal import Causal
from pipelines.models.objectives.losses import softmax_loss
from pipelines.models.objectives.repeat_bias import RepeatBias
from pipelines.models.objectives.sampling import sampled_loss
from pipelines.models.objectives.soft_targets import SoftTargets, TeacherItems
from pipelines.models.sid.digit_heads import DigitHeads, PerDigitObjective
from pipelines.models.sid.embedding import SidEmbedding
from pipelines.models.sid.item_softmax_loss import ItemTargets, item_softmax_loss, sampled_item_softmax_loss
from pipelines.models.sid.masked_batch import MaskedBatch
from pipelines.models.sid_models.rpg import RPG
from pipelines.models.sid_models.tiger import TIGER
from tests.models.test_every_model import SIDS as MODEL_SIDS
from tests.models.test_every_model import build

H, V, D, K, SHARE = 3, 3, 8, 5, 0.7
SIDS = np.array(list(itertools.product(range(V), repeat=H)))[::2]  # 14 items
N = len(SIDS)
RNG = np.random.default_rng(0)
TRUTH = np.array([0, 3, 7, 13, 5, 9])
MASKED = np.array([[1, 1, 1], [1, 0, 1], [0, 0, 1], [1, 1, 1], [0, 1, 0], [1, 1, 0]], bool)
ITEMS = np.array([RNG.choice(N, K, replace=False) for _ in TRUTH])
PROBABILITIES = RNG.dirichlet(np.ones(K), len(TRUTH)).astype(np.float32) * 0.6
PROBABILITIES[3] = 0.0  # no teacher
WEIGHTS = RNG.random(len(TRUTH)).astype(np.float32)


def teacher(share: float = SHARE) -> TeacherItems:
    return TeacherItems(torch.as_tensor(ITEMS), torch.as_tensor(PROBABILITIES), share)


def target(row: int, sids: np.ndarray = SIDS, masked: np.ndarray = MASKED) -> np.ndarray:
    """The target distribution of a row over the items, item by item."""
    mass = np.zeros(len(sids))
    for item, probability in zip(ITEMS[row], PROBABILITIES[row], strict=True):
        if all(masked[row, h] or sids[item, h] == sids[TRUTH[row], h] for h in range(H)):
            mass[item] += probability
    result = np.zeros(len(sids))
    if mass.sum():
        result += SHARE * mass / mass.sum()
    result[TRUTH[row]] += 1 - result.sum()
    return result


def targets() -> ItemTargets:
    return ItemTargets(torch.as_tensor(TRUTH), torch.as_tensor(MASKED), torch.as_tensor(WEIGHTS), teacher())


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("biased", [False, True])
def test_the_item_softmax_has_the_mixture_over_the_items_that_agree(smoothing: float, biased: bool) -> None:
    torch.manual_seed(0)
    states, vectors = torch.randn(len(TRUTH), D), torch.randn(N, D)
    history = torch.as_tensor(RNG.integers(-1, N, (len(TRUTH), 4)))
    bias = RepeatBias(history, torch.tensor([0.8])) if biased else None
    expected = 0.0
    for row, weight in enumerate(WEIGHTS):
        logits = (vectors @ states[row]).tolist()
        if biased:
            logits = [z + 0.8 * (history[row] == item).sum().item() for item, z in enumerate(logits)]
        agree = [
            all(MASKED[row, h] or SIDS[item, h] == SIDS[TRUTH[row], h] for h in range(H)) for item in range(N)
        ]
        total = math.log(sum(math.exp(z) for z, ok in zip(logits, agree, strict=True) if ok))
        wanted = target(row)
        if smoothing and MASKED[row].all():
            wanted = (1 - smoothing) * wanted + smoothing / N
        expected -= weight * sum(q * (z - total) for q, z in zip(wanted, logits, strict=True) if q)
    found = item_softmax_loss(
        states, vectors, torch.as_tensor(SIDS), targets(), smoothing=smoothing, repeat_bias=bias
    )
    assert found.item() == pytest.approx(expected, rel=1e-5)
    sampled = sampled_item_softmax_loss(
        *(states, lambda items: vectors[items], CandidateIndex(torch.as_tensor(SIDS), V), targets()),
        negatives=N,  # all of them
        smoothing=smoothing,
        repeat_bias=bias,
    )
    assert sampled.item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_digits_apart_have_the_sums_over_the_items_that_agree(smoothing: float) -> None:
    torch.manual_seed(0)
    heads, embedding = DigitHeads(H, D, V, smoothing), SidEmbedding(SIDS, V, D, masks=True)
    R = len(TRUTH)
    weights = (MASKED * WEIGHTS[:, None]).astype(np.float32)[:, None]  # [R, 1, H]
    soft = SoftTargets(ITEMS, PROBABILITIES, np.arange(R)[:, None], SHARE)
    batch = MaskedBatch.of(TRUTH[:, None], weights, H, torch.device("cpu"), soft)
    hidden = torch.randn(len(batch.tokens), D)
    expected = 0.0
    for token, state in zip(batch.tokens.tolist(), hidden, strict=True):
        row, digit = divmod(token, H)
        logp = heads.logits(state[None], digit).log_softmax(1)[0].tolist()
        for code in range(V):
            mass = sum(q for q, sid in zip(target(row), SIDS, strict=True) if sid[digit] == code)
            expected -= WEIGHTS[row] * ((1 - smoothing) * mass + smoothing / V) * logp[code]
    found = PerDigitObjective(heads, embedding).loss(hidden, batch)
    assert found.item() == pytest.approx(expected, rel=1e-5)


def rows_of(model: Recommender) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(3)
    items = rng.integers(0, 30, (8, 5)).astype(np.int32)
    items[::2, :2] = -1
    return model.make_training_batch(items, rng)


def of_all(items: np.ndarray, kept: np.ndarray | None = None, share: float = SHARE) -> SoftTargets:
    """Soft targets of a batch; by default the likeliest items of a made teacher."""
    places = np.where(items >= 0, np.arange(items.size).reshape(items.shape), -1)
    rng = np.random.default_rng(5)
    best = np.array([rng.choice(30, 4, replace=False) for _ in range(items.size)])
    probabilities = rng.dirichlet(np.ones(4), items.size).astype(np.float32)
    if kept is not None:
        best, probabilities = kept.reshape(-1, 1), np.ones((items.size, 1), np.float32)
    return SoftTargets(best.astype(np.int32), probabilities, places, share)


STUDENTS = {
    "maskgr": {"tokens": "digit"},
    "small": {"attention": "prefix", "likelihood": "item", "next_item": 0.0, "label_smoothing": 0.1},
    "sampled": {"attention": "prefix", "likelihood": "item", "next_item": 0.0, "negatives": 30},
    "full": {"likelihood": "item"},
    **dict.fromkeys(["tiger", "liger", "rpg", "diffgrm"], {}),
}


@pytest.mark.parametrize("name", STUDENTS)
def test_a_teacher_sure_of_the_true_items_changes_nothing_and_shares_are_linear(name: str) -> None:
    kind = name if name in ("tiger", "liger", "rpg", "diffgrm") else "maskgr"
    model = build(kind, **STUDENTS[name])
    drawn = rows_of(model)

    def loss(soft: SoftTargets | None) -> float:
        torch.manual_seed(0)
        with torch.no_grad():
            return model(*drawn, **({} if soft is None else {"soft": soft})).item()

    hard = loss(None)
    assert loss(of_all(drawn[0], kept=drawn[0].clip(min=0))) == pytest.approx(hard, rel=1e-5)
    assert loss(of_all(drawn[0], share=0.0)) == pytest.approx(hard, rel=1e-5)
    whole = loss(of_all(drawn[0], share=1.0))
    assert whole != pytest.approx(hard, rel=1e-3)
    assert loss(of_all(drawn[0], share=0.25)) == pytest.approx(0.75 * hard + 0.25 * whole, rel=1e-5)


@torch.no_grad()
def test_tiger_sums_over_the_items_that_agree_with_the_digits_before() -> None:
    model = build("tiger")
    assert isinstance(model, TIGER)
    items, weights = rows_of(model)
    soft = of_all(items)
    states, truth, _ = model.teacher_forced(items, weights, None)
    expected = 0.0
    for row, true in enumerate(truth[:, 0].tolist()):
        place = soft.places[row, -1]
        for digit in range(3):
            mass = np.zeros(8)
            for item, p in zip(soft.items[place], soft.probabilities[place], strict=True):
                if (MODEL_SIDS[item, :digit] == MODEL_SIDS[true, :digit]).all():
                    mass[MODEL_SIDS[item, digit]] += p
            share = SHARE if mass.sum() else 0.0
            wanted = share * mass / max(mass.sum(), 1e-30)
            wanted[MODEL_SIDS[true, digit]] += 1 - share
            logp = model.heads.logits(states[row, digit][None], digit).log_softmax(1)[0].numpy()
            expected -= (wanted * logp).sum()
    assert model(items, weights, soft=soft).item() == pytest.approx(expected, rel=1e-5)


@torch.no_grad()
def test_rpg_sums_over_all_items() -> None:
    model = build("rpg")
    assert isinstance(model, RPG) and isinstance(model, Causal)
    items, weights = rows_of(model)
    soft = of_all(items)
    places, _, truth = model.targets(weights, items.astype(np.int64))
    logits = model.logits(model.states_before(items, places)).log_softmax(-1).numpy()  # [H, R, V]
    expected = 0.0
    for r, (position, true) in enumerate(zip(places.tolist(), truth.tolist(), strict=True)):
        place = soft.places[position // 4, position % 4 + 1]
        for digit in range(3):
            expected -= (1 - SHARE) * logits[digit, r, MODEL_SIDS[true, digit]]
            for item, p in zip(soft.items[place], soft.probabilities[place], strict=True):
                expected -= SHARE * p * logits[digit, r, MODEL_SIDS[item, digit]]
    assert model(items, weights, soft=soft).item() == pytest.approx(expected, rel=1e-5)


def test_with_full_attention_an_item_that_sees_a_later_item_keeps_its_true_target() -> None:
    model = build("maskgr", tokens="digit")
    items = np.array([[3, 7, 1, 4]], np.int32)
    weights = np.ones((1, 4, 3), np.float32)
    weights[0, 2, 1] = 0.0  # a digit of the third item is visible: to the first and second item as well

    probabilities = np.random.default_rng(0).dirichlet(np.ones(30), 4).astype(np.float32)
    every = np.tile(np.arange(30, dtype=np.int32), (4, 1))

    def loss(places: list[int]) -> float:
        with torch.no_grad():
            return model(
                items, weights, soft=SoftTargets(every, probabilities, np.array([places]), SHARE)
            ).item()

    assert loss([0, 1, -1, -1]) == loss([-1, -1, -1, -1])
    assert len({loss([0, 1, 2, 3]), loss([0, 1, -1, 3]), loss([0, 1, 2, -1])}) == 3


def test_a_step_with_soft_targets_asks_its_device_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *_: False)
    for name, settings in STUDENTS.items():
        if name == "sampled":  # looks agreeing items up
            continue
        model = build(name if name in ("tiger", "liger", "rpg", "diffgrm") else "maskgr", **settings)
        drawn = rows_of(model)
        loss = model.to("meta").train()(*drawn, soft=of_all(drawn[0]))
        loss.backward()
        assert loss.device.type == "meta"


def large_teacher(items: int, count: int) -> TeacherItems:
    rng = np.random.default_rng(3)
    drawn = np.array([rng.choice(items, count, replace=False) for _ in range(3)])
    probabilities = rng.dirichlet(np.full(count, 0.3), 3).astype(np.float32) * 0.7
    return TeacherItems(torch.as_tensor(drawn), torch.as_tensor(probabilities), SHARE)


def test_drawn_items_have_the_teachers_shares() -> None:
    torch.manual_seed(0)
    whole, count, rounds = large_teacher(60, 40), 16, 2000
    expected = whole.probabilities / whole.probabilities.sum(1, keepdim=True)  # [R, K]
    total = torch.zeros_like(expected)
    for _ in range(rounds):
        drawn = whole.drawn(count)
        counts = (drawn.items[:, None] == whole.items[:, :, None]).sum(2)  # [R, K]
        assert (counts.sum(1) == count).all()
        assert ((counts - count * expected).abs() < 1 + 1e-4).all()
        total += counts / count
    error = (expected * (1 - expected) / rounds).sqrt()  # above that of systematic draws
    assert ((total / rounds - expected).abs() <= 4 * error).all()


def test_the_mean_of_many_draws_of_teachers_items_is_the_loss_over_the_catalogue() -> None:
    torch.manual_seed(0)
    whole, truth = large_teacher(60, 40), torch.tensor([1, 2, 3])
    states, vectors, weights = torch.randn(3, 4), torch.randn(60, 4), torch.rand(3)
    exact = softmax_loss(states, vectors, truth, weights, teacher=whole)
    draws = torch.stack(
        [
            sampled_loss(states, lambda i: vectors[i], 60, truth, weights, 60, teacher=whole)
            for _ in range(1500)
        ]
    )
    assert draws.std() > 0  # teachers' items are drawn although the catalogue is not
    assert abs(draws.mean() - exact) < 3 * draws.std() / len(draws) ** 0.5
    sampled = torch.stack(
        [
            sampled_loss(states, lambda i: vectors[i], 60, truth, weights, 30, teacher=whole)
            for _ in range(1500)
        ]
    )
    assert abs(sampled.mean() - exact) < 3 * sampled.std() / len(sampled) ** 0.5 + 0.01 * exact
