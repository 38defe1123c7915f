"""Gaussian diffusion: schedules, the moments of the forward process, reverse processes with a known end."""

from __future__ import annotations

import math

import pytest
import torch

from pipelines.errors import UserError
from pipelines.models.item_models.config import NOISE_SCHEDULES
from pipelines.models.objectives.gaussian import (
    Diffusion,
    alpha_bars,
    strided_steps,
    user_noise,
    with_length,
)


def test_schedules_are_their_closed_forms() -> None:
    T, t = 1000, torch.arange(1001, dtype=torch.float64)
    beta = 1e-4 + (0.02 - 1e-4) * (t[1:] - 1) / 999
    linear = torch.cat((torch.ones(1, dtype=torch.float64), torch.log1p(-beta).cumsum(0).exp()))
    cosine = (
        torch.cos((t / T + 0.008) / 1.008 * math.pi / 2) ** 2 / math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    )
    root = (1 - (t / T + 1e-4).sqrt()) / (1 - 1e-4**0.5)
    for schedule, closed in (("linear", linear), ("cosine", cosine), ("sqrt", root)):
        torch.testing.assert_close(
            alpha_bars(schedule, T)[:-1], closed[:-1]
        )  # the last β of two of them is cut to 0.999


@pytest.mark.parametrize("schedule", NOISE_SCHEDULES)
@pytest.mark.parametrize("T", [20, 500, 1000])
def test_schedules_end_in_noise(schedule: str, T: int) -> None:
    bars = alpha_bars(schedule, T)
    assert bars[0] == 1
    assert (bars.diff() < 0).all()
    assert 0 < bars[-1] < 1e-3


def test_moments_of_the_forward_process() -> None:
    torch.manual_seed(0)
    diffusion, clean = Diffusion("cosine", 100), torch.tensor([[3.0, -1.0]])
    for t in (1, 40, 100):
        x = diffusion.add_noise(clean.expand(50_000, 2), torch.full((50_000,), t))
        left = float(alpha_bars("cosine", 100)[t])
        torch.testing.assert_close(x.mean(0), left**0.5 * clean[0], atol=0.02, rtol=0)
        torch.testing.assert_close(x.var(0), torch.full((2,), 1 - left), atol=0.02, rtol=0)


@pytest.mark.parametrize(("t", "s"), [(1000, 999), (500, 499), (700, 300)])
def test_posterior_is_bayes_rule(t: int, s: int) -> None:
    diffusion, bars = Diffusion("linear", 1000), alpha_bars("linear", 1000).tolist()
    kept = bars[t] / bars[s]  # x_t given x_s: N(√kept x_s, 1 − kept)
    precision = 1 / (1 - bars[s]) + kept / (1 - kept)
    to_clean, to_noisy, deviation = diffusion.posterior(t, s)
    assert to_clean == pytest.approx(bars[s] ** 0.5 / (1 - bars[s]) / precision)
    assert to_noisy == pytest.approx(kept**0.5 / (1 - kept) / precision)
    assert deviation == pytest.approx(precision**-0.5)


@pytest.mark.parametrize("evaluations", [None, 1, 2, 7, 50])
def test_the_reverse_process_ends_where_the_prediction_is_certain(evaluations: int | None) -> None:
    truth, looked = torch.tensor([[0.5, -2.0], [4.0, 1.0]]), []

    def predict(x: torch.Tensor, t: int) -> torch.Tensor:
        looked.append(t)
        return truth

    found = Diffusion("sqrt", 50).generate(predict, lambda step: torch.randn(2, 2), evaluations)
    torch.testing.assert_close(found, truth)
    assert len(looked) == (evaluations or 50)


def test_the_reverse_process_draws_from_what_it_learnt() -> None:
    torch.manual_seed(0)
    diffusion, bars, variance = Diffusion("linear", 1000), alpha_bars("linear", 1000).tolist(), 0.25

    def expected(x: torch.Tensor, t: int) -> torch.Tensor:  # of x_0 ~ N(0, 0.25) given x_t
        return bars[t] ** 0.5 * variance * x / (bars[t] * variance + 1 - bars[t])

    x = diffusion.generate(expected, lambda step: torch.randn(8000, 1))
    assert x.mean().item() == pytest.approx(0, abs=0.02)
    assert x.var().item() == pytest.approx(variance, rel=0.05)


@pytest.mark.parametrize("S", [2, 3, 20, 999, 1000])
def test_strided_steps_hold_both_ends(S: int) -> None:
    steps = strided_steps(1000, S)
    assert (steps[0], steps[-1], len(set(steps))) == (1000, 1, S)
    gaps = {a - b for a, b in zip(steps, steps[1:], strict=False)}
    assert min(gaps) >= 1
    assert max(gaps) - min(gaps) <= 1


def test_how_many_evaluations() -> None:
    assert strided_steps(1000, None) == list(range(1000, 0, -1))
    assert strided_steps(1000, 1) == [1000]
    with pytest.raises(UserError, match="--nfe 51 is more than the 50 steps of the diffusion; use 1 to 50"):
        strided_steps(50, 51)


def test_vectors_of_one_length() -> None:
    vectors = with_length(torch.randn(5, 8), 0.3)
    torch.testing.assert_close(vectors.norm(dim=1), torch.full((5,), 0.3))


def test_noise_belongs_to_user_seed_and_step() -> None:
    users = torch.arange(4000)
    noise = user_noise(users, 33, (0, 7))
    assert noise.shape == (4000, 33)
    some = torch.tensor([3999, 5, 77])
    assert torch.equal(user_noise(some, 33, (0, 7)), noise[some])
    assert noise.mean().item() == pytest.approx(0, abs=0.01)
    assert noise.std().item() == pytest.approx(1, abs=0.01)
    assert (noise**4).mean().item() == pytest.approx(3, abs=0.1)
    others = (
        user_noise(users, 33, (0, 8)),
        user_noise(users, 33, (1, 7)),
        user_noise(users + 1, 33, (0, 7)),
        noise.roll(1, 1),
    )
    for other in others:
        assert abs((noise * other).mean().item()) < 0.02


def test_noise_is_a_published_hash_of_user_seed_and_place() -> None:
    """SplitMix64 on Python's integers: its first numbers from seed 0 are published."""

    def mixed(z: int) -> int:
        z = (z + 1) * 0x9E3779B97F4A7C15 % 2**64
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        return z ^ z >> 31

    assert [mixed(0), mixed(1)] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]
    for user in (0, 1, 12_345):
        key = mixed(mixed(mixed(5) + 30) + user)
        expected: list[list[float]] = [[], []]
        for place in range(4):
            bits = mixed(key + place)
            radius, angle = (
                (-2 * math.log(((bits >> 32) + 0.5) / 2**32)) ** 0.5,
                (bits & 0xFFFFFFFF) * 2 * math.pi / 2**32,
            )
            expected[0].append(radius * math.cos(angle))
            expected[1].append(radius * math.sin(angle))
        noise = user_noise(torch.tensor([user]), 7, (5, 30))[0].tolist()
        assert noise == pytest.approx((expected[0] + expected[1])[:7], abs=1e-5)
