"""Extrapolation of Recall over steps: a law that is known."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.extrapolate import extrapolate, fitted, power_law, steps_to

STEPS = np.array([500.0, 1500.0, 4500.0, 13_500.0])
LAW = np.array([0.12, 2.0, 0.5])  # 0.12 − 2 / √s


def test_a_law_without_noise_is_found() -> None:
    found = fitted(STEPS, power_law(STEPS, *LAW))
    assert found == pytest.approx(LAW, rel=1e-3)
    assert steps_to(LAW, 0.10) == pytest.approx(10_000)  # 2 / √s = 0.02
    assert steps_to(LAW, 0.12) == np.inf


def test_intervals_hold_the_truth_and_grow_with_fewer_users() -> None:
    recalls = power_law(STEPS, *LAW)
    (low, _, high), (first, _, last) = extrapolate(STEPS, recalls, 10**6, 0.10, draws=100)
    assert low < 0.12 < high and first < 10_000 < last
    wide, _ = extrapolate(STEPS, recalls, 2000, 0.10, draws=100)
    assert wide[2] - wide[0] > high - low
