"""Random draws of training: masks and loss weights, next-item examples, dropped histories, diffusion steps.

Shapes: B sequences, n items of each, H digits per item, k horizon.
"""

from __future__ import annotations

import numpy as np


def sample_masks(
    eligible: np.ndarray, rng: np.random.Generator, whole_item: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the masks and loss weights of one optimizer step (paper, section 3.1, eq. 3).

    Each sequence draws a masking rate t ~ U(0, 1]. Each of its eligible digits is masked independently with
    probability t. Two changes to the paper lower the variance of the loss and keep its expectation:

    - The rates are stratified: each of B equal intervals gives the rate of one of the B sequences, so every t
      is still uniform.
    - A masked digit of a sequence with j masked out of m eligible digits has the weight (m + 1) / j instead
      of 1/t. This is E[1/t | j], by Bayes' rule with t uniform: ∫ t^(j−1) (1−t)^(m−j) dt / ∫ t^j (1−t)^(m−j)
      dt = (m + 1) / j. No single digit that is masked at a tiny rate can then dominate the step.

    Whole items (section 3.3): a share of the sequences masks the H digits of an item together, each item with
    probability t; m and j then count items, so that every digit still has the expected weight 1. This changes
    the objective. For that share it is the likelihood of an item's digits one by one, given other items
    alone, while equation 3 also conditions on digits of the same item.

    Args:
        eligible: bool [B, n, H], False where there is no item or its digits must stay visible.
        rng: source of randomness.
        whole_item: β, share of the sequences that mask whole items; all digits of such an item are eligible,
            or none.

    Returns:
        The masks, bool [B, n, H]; the loss weights, float32 [B, n, H], above 0 where masked and else 0.
    """
    B = len(eligible)
    t = (rng.permutation(B) + 1.0 - rng.random(B)) / B  # [B], in (0, 1]
    draws = rng.random(eligible.shape, dtype=np.float32)
    unit = np.ones(B)  # number of digits that are masked together
    if whole_item:
        whole = rng.random(B) < whole_item
        draws[whole] = draws[whole, :, :1]
        unit[whole] = eligible.shape[2]
    masked = (draws < t.astype(np.float32)[:, None, None]) & eligible
    m, j = eligible.sum((1, 2)), masked.sum((1, 2))  # digits; a ratio of digits is also a ratio of items
    weight = (m + unit) / np.maximum(j, 1)  # [B]
    return masked, masked * weight.astype(np.float32)[:, None, None]


def sample_item_masks(
    items: np.ndarray, digits: int, rng: np.random.Generator, whole_item: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the masks and loss weights of one step with a masking rate per item, for prefix attention.

    This is `sample_masks` with items in the place of sequences, except that a share of the items is fully
    masked at any rate, with a weight of 1 per digit.

    Args:
        items: int [B, n], −1 at padding.
        digits: H.
        rng: source of randomness.
        whole_item: share of the items that is fully masked.

    Returns:
        The masks, bool [B, n, H]; the loss weights, float32 [B, n, H], above 0 where masked and else 0.
    """
    real = items >= 0
    _, drawn = sample_masks(np.ones((real.sum(), 1, digits), bool), rng)
    drawn = drawn[:, 0]  # [real items, H]
    if whole_item:
        drawn[rng.random(len(drawn)) < whole_item] = 1.0
    weights = np.zeros((*items.shape, digits), np.float32)
    weights[real] = drawn
    return weights > 0, weights


def choose_items(eligible: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Choose each eligible item with probability `share`, but at least one per sequence that has one.

    Args:
        eligible: bool [B, n].
        share: the probability.
        rng: source of randomness.

    Returns:
        bool [B, n].
    """
    draws = np.where(eligible, rng.random(eligible.shape), np.inf)
    return eligible & ((draws < share) | (draws == draws.min(1, keepdims=True)))


def stratified_steps(count: int, timesteps: int, rng: np.random.Generator) -> np.ndarray:
    """Draw diffusion steps from 1 to `timesteps`: each is uniform, and together they are evenly spread.

    Returns:
        int64 [count].
    """
    time = (rng.permutation(count) + rng.random(count)) / max(count, 1)  # in [0, 1)
    return 1 + np.minimum(time * timesteps, timesteps - 1).astype(np.int64)


def cut_to_next_item(
    items: np.ndarray, share: float, rng: np.random.Generator, horizon: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Turn a share of the sequences into next-item examples: the next k items after a clean history.

    Inference has the same form. Each of these sequences ends at one of its items from the (k + 1)-th on,
    drawn uniformly, and only its last k items may be masked. Unlike the stratified rates this changes the
    objective: the likelihood of an item given its past has a larger part in it than in equation 3.

    Args:
        items: int [B, n], padded with −1 on the left.
        share: share of the sequences, 0 to 1.
        rng: source of randomness.
        horizon: k.

    Returns:
        The items with the next-item examples cut, padded on the left, [B, n]; bool [B, n], True where an item
        may be masked.
    """
    chosen = rng.random(len(items)) < share
    lengths = (items >= 0).sum(1)
    last = rng.random(len(items)) * np.maximum(lengths - horizon, 1)
    ends = np.minimum(horizon + 1 + last.astype(np.int64), lengths)  # [B], number of items that remain
    shift = np.where(chosen, lengths - ends, 0)[:, None]  # [B, 1]
    source = np.arange(items.shape[1]) - shift  # [B, n], the column that moves to each column
    cut = np.where(source >= 0, np.take_along_axis(items, np.maximum(source, 0), axis=1), -1)
    eligible = cut >= 0
    eligible[chosen, :-horizon] = False
    return cut, eligible


def drop_histories(items: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Reduce a share of the sequences to one item, drawn uniformly: training of the unconditional model.

    Classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598) needs the unconditional model. Like
    next-item examples, dropped histories change the objective.

    Args:
        items: int [B, n], padded with −1 on the left.
        share: share of the sequences, 0 to 1.
        rng: source of randomness.

    Returns:
        The items [B, n], with the single item of a dropped history in the last column.
    """
    if not share:
        return items
    chosen = rng.random(len(items)) < share
    lengths = (items >= 0).sum(1)
    column = items.shape[1] - 1 - (rng.random(len(items)) * lengths).astype(np.int64)
    items = items.copy()
    kept = items[chosen, column[chosen]]
    items[chosen] = -1
    items[chosen, -1] = kept
    return items
