"""What the forward processes draw: masks as loss weights (0 where a digit stays visible, above 0 where it is masked), and steps."""

from __future__ import annotations

import numpy as np


def sample_masks(eligible: np.ndarray, rng: np.random.Generator, whole_item: float = 0.0) -> np.ndarray:
    """Masks and loss weights of one optimiser step (paper, section 3.1, eq. 3).

    Each sequence draws a masking rate t ~ U(0, 1]; each of its n eligible digits is masked independently with
    probability t. Two changes lower the variance of the loss and leave its expectation as it is:

    - The rates are stratified: the B sequences take one from each of B equal intervals, so every t is still uniform.
    - A sequence with k masked digits weighs each of them (n + 1) / k instead of 1/t. That is E[1/t | k], by
      Bayes' rule with t uniform: ∫ t^(k−1) (1−t)^(n−k) dt / ∫ t^k (1−t)^(n−k) dt = (n + 1) / k. So no single digit
      masked at a tiny rate can outweigh the whole step.

    Whole items (section 3.3): a share of the sequences masks the H digits of an item together, each item with
    probability t; n and k count items there, so that every digit still counts 1 in expectation. This changes what is
    estimated: that share of the objective is the likelihood of an item's digits one by one, given other items alone,
    where equation 3 also asks for digits given others of the same item.

    Args:
        eligible: [B, n, H], False where there is no item or its digits must stay visible.
        whole_item: β, the share of sequences that mask whole items; their items are eligible as a whole.

    Returns:
        float32 [B, n, H]: what each masked digit counts, 0 elsewhere. What is masked is what counts.
    """
    B = len(eligible)
    t = (rng.permutation(B) + 1.0 - rng.random(B)) / B  # (0, 1]
    draws, together = (
        rng.random(eligible.shape, dtype=np.float32),
        np.ones(B),
    )  # digits that are masked as one
    if whole_item:
        whole = rng.random(B) < whole_item
        draws[whole], together[whole] = draws[whole, :, :1], eligible.shape[2]
    masked = (draws < t.astype(np.float32)[:, None, None]) & eligible
    n, k = eligible.sum((1, 2)), masked.sum((1, 2))
    weight = (n + together) / np.maximum(k, 1)  # [B]; the same ratio for n / H and k / H items
    return masked * weight.astype(np.float32)[:, None, None]


def sample_item_masks(
    items: np.ndarray, digits: int, rng: np.random.Generator, whole_item: float = 0.0
) -> np.ndarray:
    """Masks and loss weights of one step in which each item draws a masking rate of its own, for prefix attention.

    `sample_masks` with an item for a sequence, except that a share of the items is masked wholly at any rate:
    each of their digits counts 1.

    Args:
        items: [B, n], −1 at padding.
        digits: H.
        whole_item: that share.

    Returns:
        float32 [B, n, H].
    """
    real = items >= 0
    drawn = sample_masks(np.ones((real.sum(), 1, digits), bool), rng)[:, 0]
    if whole_item:
        drawn[rng.random(len(drawn)) < whole_item] = 1.0
    weights = np.zeros((*items.shape, digits), np.float32)
    weights[real] = drawn
    return weights


def chosen_items(eligible: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """A share of the eligible items of each sequence, bool [B, n], each by its own chance; at least one where there is one."""
    draws = np.where(eligible, rng.random(eligible.shape), np.inf)
    return eligible & ((draws < share) | (draws == draws.min(1, keepdims=True)))


def stratified_steps(count: int, T: int, rng: np.random.Generator) -> np.ndarray:
    """Steps 1 … T of Gaussian noise, int64 [count]: each is uniform, and together they are spread evenly."""
    return 1 + np.minimum((rng.permutation(count) + rng.random(count)) / max(count, 1) * T, T - 1).astype(
        np.int64
    )


def cut_to_next_item(
    items: np.ndarray, share: float, rng: np.random.Generator, horizon: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Make a share of the sequences examples of what inference asks: the next k items after a clean history.

    Each chosen sequence ends at one of its items from the (k + 1)-th on, drawn evenly; only its last k items' digits are
    then eligible for the mask. Unlike stratifying the rates this changes what is estimated: the likelihood of an item
    given its past gets a larger part in the objective than equation 3 gives it.

    Args:
        items: [B, n], padded with −1 on the left.
        share: of sequences, 0 to 1.
        ahead: k.

    Returns:
        The items, the chosen ones cut and still padded on the left, and which digits' items may be masked, bool [B, n].
    """
    chosen = rng.random(len(items)) < share
    lengths = (items >= 0).sum(1)
    ends = np.minimum(
        horizon + 1 + (rng.random(len(items)) * np.maximum(lengths - horizon, 1)).astype(np.int64), lengths
    )
    place = (
        np.arange(items.shape[1]) - np.where(chosen, lengths - ends, 0)[:, None]
    )  # what moves to each place
    cut = np.where(place >= 0, np.take_along_axis(items, np.maximum(place, 0), axis=1), -1)
    eligible = cut >= 0
    eligible[chosen, :-horizon] = False
    return cut, eligible


def drop_histories(items: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Leave of a share of the sequences one item alone, drawn evenly: what the model expects of a user it knows nothing of.

    That is the unconditional model of classifier-free guidance (Ho and Salimans 2022). Like next-item examples it changes
    what is estimated.

    Args:
        items: [B, n], padded with −1 on the left.
        share: of sequences, 0 to 1.

    Returns:
        The items [B, n], the one left at the right end.
    """
    if not share:
        return items
    chosen = rng.random(len(items)) < share
    lengths = (items >= 0).sum(1)
    place = items.shape[1] - 1 - (rng.random(len(items)) * lengths).astype(np.int64)
    items = items.copy()
    left = items[chosen, place[chosen]]
    items[chosen] = -1
    items[chosen, -1] = left
    return items
