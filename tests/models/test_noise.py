"""The forward process: every rate equally likely, every token masked at its sequence's rate, weights 1/t."""

from __future__ import annotations

import numpy as np

from pipelines.models.noise import FLOOR, cut_to_next_item, masked_diffusion_weights


def draws(B: int, n: int, H: int, seeds: int) -> np.ndarray:
    real = np.ones((B, n, H), bool)
    return np.stack([masked_diffusion_weights(real, np.random.default_rng(s)) for s in range(seeds)])  # [seeds, B, n, H]


def test_weights_are_one_over_the_rate_and_zero_where_visible() -> None:
    weights = draws(8, 20, 5, 50)
    for sequence in weights.reshape(-1, 100):
        values = np.unique(sequence[sequence > 0])
        assert len(values) <= 1  # one rate a sequence
        assert not len(values) or 1 <= values[0] <= 1 / FLOOR
    rates = (weights > 0).mean((2, 3)).ravel()
    t = np.array([1 / s[s > 0][0] if (s > 0).any() else np.nan for s in weights.reshape(-1, 100)])
    assert np.nanmax(np.abs(rates - t)) < 5 * 0.5 / 10  # five binomial standard deviations of 100 digits


def test_the_estimate_is_unbiased_token_by_token() -> None:
    """E[1/t · masked] = 1 for every token (eq. 3), for each place in the batch."""
    weights = np.minimum(draws(4, 1, 1, 200_000 // 4), 50)  # clipped: rates below 0.02 have a huge variance
    expected = 1 - 0.02 + 50 * 0.02**2 / 2  # ∫ t·min(1/t, 50) dt
    assert np.allclose(weights.mean(0), expected, atol=0.05)


def test_rates_are_stratified_over_the_batch() -> None:
    B = 16
    weights = draws(B, 400, 5, 20)
    rates = np.sort((weights > 0).mean((2, 3)), axis=1)  # one in each sixteenth, up to sampling error
    strata = (np.arange(B) + 0.5) / B
    assert np.abs(rates - strata).max() < 0.5 / B + 0.06


def test_padding_is_never_masked() -> None:
    real = np.zeros((32, 6, 3), bool)
    real[:, 3:] = True
    weights = masked_diffusion_weights(real, np.random.default_rng(0))
    assert not weights[:, :3].any()
    assert weights[:, 3:].any()


def test_next_item_examples_are_prefixes_whose_last_item_alone_may_be_masked() -> None:
    items = np.array([[-1, -1, 1, 2, 3], [4, 5, 6, 7, 8], [-1, -1, -1, -1, 9]])
    ends = set()
    for seed in range(300):
        cut, eligible = cut_to_next_item(items, 0.5, np.random.default_rng(seed))
        for row, kept, may in zip(items.tolist(), cut.tolist(), eligible.tolist(), strict=True):
            real, left = [i for i in row if i >= 0], [i for i in kept if i >= 0]
            assert kept == [-1] * (5 - len(left)) + real[: len(left)]  # a prefix, padded on the left
            assert len(left) >= min(2, len(real))
            if may != [i >= 0 for i in kept]:
                assert may == [False] * 4 + [True]
                ends.add(left[-1])
            else:
                assert left == real
    assert ends == {2, 3, 5, 6, 7, 8}  # a single item has no past: nothing there to tell apart
    whole, everything = cut_to_next_item(items, 0.0, np.random.default_rng(0))
    assert np.array_equal(whole, items)
    assert np.array_equal(everything, items >= 0)
