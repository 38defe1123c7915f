"""The masks of training: uniform masking rates, unbiased weights; next-item examples; steps."""

from __future__ import annotations

import numpy as np

from pipelines.models.objectives.masking import (
    choose_items,
    cut_to_next_item,
    sample_item_masks,
    sample_masks,
    stratified_steps,
)


def draws(B: int, n: int, H: int, seeds: int) -> np.ndarray:
    """Return the weights of some seeds, [seeds, B, n, H]."""
    real = np.ones((B, n, H), bool)
    return np.stack([sample_masks(real, np.random.default_rng(s))[1] for s in range(seeds)])


def test_the_weight_of_a_masked_digit_is_its_expected_inverse_rate() -> None:
    """n = 6 eligible digits: sampled E[1/t | k masked] is (n + 1) / k, and that is the weight."""
    rng = np.random.default_rng(0)
    t = 1 - rng.random(1_000_000)
    k = rng.binomial(6, t)
    for masked in range(1, 7):
        inverse = 1 / t[k == masked]
        assert (
            abs(inverse.mean() - 7 / masked)
            < 5 * inverse.std() / len(inverse) ** 0.5 + 0.05 * (masked == 1) * 7
        )
    for sequence in draws(16, 2, 3, 50).reshape(-1, 6):
        count = (sequence > 0).sum()
        assert np.allclose(sequence[sequence > 0], 7 / count if count else 0)


def test_the_estimate_is_unbiased_token_by_token() -> None:
    """E[weight] = 1 for every token, as E[1/t · masked] is in eq. 3, at each place of the batch."""
    weights = draws(4, 2, 2, 40_000)
    assert np.allclose(weights.mean(0), 1, atol=0.05)


def test_rates_are_stratified_over_the_batch() -> None:
    B = 16
    weights = draws(B, 400, 5, 20)
    rates = np.sort((weights > 0).mean((2, 3)), axis=1)  # one in each sixteenth, up to sampling error
    strata = (np.arange(B) + 0.5) / B
    assert np.abs(rates - strata).max() < 0.5 / B + 0.06


def test_whole_items_are_masked_together_and_stay_unbiased() -> None:
    """A share β of the sequences masks whole items; (n + 1) / k then counts items, and E[weight] stays 1."""
    real = np.ones((4, 3, 2), bool)
    weights = np.stack([sample_masks(real, np.random.default_rng(s), 0.6)[1] for s in range(20_000)])
    assert np.allclose(weights.mean(0), 1, atol=0.06)
    masked = (weights > 0).sum(3)  # [seeds, B, n] digits of each item
    together = (masked != 1).all(2)
    some = together & (masked > 0).any(2)
    for k in (1, 2):
        chosen = weights[some & ((masked == 2).sum(2) == k)]
        counts = np.unique(chosen[chosen > 0])
        assert np.allclose(counts, [7 / (2 * k), 4 / k])  # digits that met by chance, and whole items
    alone = np.stack([sample_masks(real, np.random.default_rng(s), 1.0)[1] for s in range(500)])
    assert ((alone > 0).sum(3) != 1).all()


def test_each_item_draws_its_own_rate_and_stays_unbiased() -> None:
    items = np.tile([[-1, 5, 6], [7, 8, 9]], (2000, 1))
    masked, weights = sample_item_masks(items, 2, np.random.default_rng(0))
    assert masked.dtype == bool
    assert np.array_equal(masked, weights > 0)
    assert not masked[items < 0].any()
    counts = masked[items >= 0].sum(1)
    assert np.allclose(np.bincount(counts) / len(counts), 1 / 3, atol=0.02)  # uniform over 0, 1 and 2 digits
    assert np.allclose(weights[items >= 0].mean(0), 1, atol=0.03)


def test_a_share_of_the_items_is_fully_masked() -> None:
    masked, weights = sample_item_masks(np.arange(9000)[None], 2, np.random.default_rng(0), whole_item=0.6)
    full = masked.all(2)
    assert abs(full.mean() - (0.6 + 0.4 / 3)) < 0.02
    assert np.allclose(weights.mean((0, 1)), 1, atol=0.03)


def test_padding_is_never_masked() -> None:
    real = np.zeros((32, 6, 3), bool)
    real[:, 3:] = True
    masked, weights = sample_masks(real, np.random.default_rng(0))
    assert np.array_equal(masked, weights > 0)
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
    for seed in range(50):
        cut, eligible = cut_to_next_item(items, 1.0, np.random.default_rng(seed), horizon=2)
        assert eligible.sum(1).tolist() == [2, 2, 1]
        assert not eligible[:, :-2].any()
        assert all(
            left >= min(3, real) for left, real in zip((cut >= 0).sum(1), (items >= 0).sum(1), strict=True)
        )
    whole, everything = cut_to_next_item(items, 0.0, np.random.default_rng(0))
    assert np.array_equal(whole, items)
    assert np.array_equal(everything, items >= 0)


def test_a_share_of_the_items_and_at_least_one() -> None:
    eligible = np.random.default_rng(0).random((4000, 6)) < 0.5
    chosen = choose_items(eligible, 0.1, np.random.default_rng(1))
    assert not (chosen & ~eligible).any()
    n = eligible.sum(1)
    assert ((chosen.sum(1) >= 1) == (n >= 1)).all()
    expected = np.where(n > 0, 0.1 * n + 0.9**n, 0)  # one more where none of n was drawn
    assert abs(chosen.sum() / expected.sum() - 1) < 0.03


def test_steps_are_spread_evenly() -> None:
    steps = stratified_steps(3000, 1000, np.random.default_rng(0))
    assert (np.histogram(steps, np.arange(1, 1002, 10))[0] == 30).all()
    assert abs(np.corrcoef(np.arange(3000), steps)[0, 1]) < 0.1  # in no order
    assert set(stratified_steps(40, 3, np.random.default_rng(0))) == {1, 2, 3}
    assert len(stratified_steps(0, 3, np.random.default_rng(0))) == 0
