"""Best score of every semantic ID, in plain Python; beam search is compared with it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np

Model = Callable[[tuple[int, ...]], np.ndarray]  # one partial SID (V where masked) → log-probabilities [H, V]


def paths(
    model: Model, unmask: str, schedule: tuple[int, ...], order: list[int] | None, digits: int, codes: int
) -> dict[tuple[int, ...], float]:
    """Return every SID that the order can reach (all V^H), with the best score of the paths that reach it.

    Args:
        model: the model of one user.
        unmask: order of unmasking.
        schedule: number of digits that each function evaluation unmasks.
        order: permutation of the digits, for the order "random".
        digits: H.
        codes: V.
    """
    frontier = {(codes,) * digits: 0.0}
    for count in schedule:
        children: dict[tuple[int, ...], float] = {}
        for partial, score in frontier.items():
            logp = model(partial)
            masked = next_masked(logp, partial, unmask, order, codes)
            choices = itertools.combinations(masked, count) if unmask == "confidence" else [masked[:count]]
            for chosen, values in itertools.product(choices, itertools.product(range(codes), repeat=count)):
                child, total = list(partial), score
                for h, value in zip(chosen, values, strict=True):
                    child[h], total = value, total + float(logp[h, value])
                children[tuple(child)] = max(children.get(tuple(child), -math.inf), total)
        frontier = children
    return frontier


def next_masked(
    logp: np.ndarray, partial: tuple[int, ...], unmask: str, order: list[int] | None, codes: int
) -> list[int]:
    """Return the masked digits of a partial SID in the order in which they are unmasked."""
    masked = [h for h in range(len(partial)) if partial[h] == codes]
    if unmask == "greedy":
        probabilities = -np.sort(-np.exp(logp), axis=1)  # [S, V], the largest first
        masked.sort(key=lambda h: -(probabilities[h, 0] - probabilities[h, 1]))
    elif order is not None:
        masked.sort(key=order.index)
    return masked
