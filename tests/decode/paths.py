"""The truth that beam search is held against: every item, every order the strategy would take, in plain Python."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np

Model = Callable[[tuple[int, ...]], np.ndarray]  # one partial SID (V where masked) → log-probabilities [H, V]


def paths(
    model: Model, unmask: str, split: tuple[int, ...], order: list[int] | None, digits: int, codes: int
) -> dict[tuple, float]:
    """Every SID the strategy can reach (all V^H of them) with its best score over the paths that reach it."""
    frontier = {(codes,) * digits: 0.0}
    for reveal in split:
        grown: dict[tuple, float] = {}
        for partial, score in frontier.items():
            logp = model(partial)
            masked = next_masked(logp, partial, unmask, order, codes)
            choices = itertools.combinations(masked, reveal) if unmask == "confidence" else [masked[:reveal]]
            for chosen, values in itertools.product(choices, itertools.product(range(codes), repeat=reveal)):
                child, total = list(partial), score
                for h, value in zip(chosen, values, strict=True):
                    child[h], total = value, total + float(logp[h, value])
                grown[tuple(child)] = max(grown.get(tuple(child), -math.inf), total)
        frontier = grown
    return frontier


def next_masked(
    logp: np.ndarray, partial: tuple[int, ...], unmask: str, order: list[int] | None, codes: int
) -> list[int]:
    """The masked digits of a partial SID in the order in which the strategy takes them."""
    masked = [h for h in range(len(partial)) if partial[h] == codes]
    if unmask == "greedy":
        top = -np.sort(-np.exp(logp), axis=1)
        masked.sort(key=lambda h: -(top[h, 0] - top[h, 1]))
    elif order is not None:
        masked.sort(key=order.index)
    return masked
