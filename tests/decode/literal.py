"""Beam search word by word, in plain Python: every combination of codes of every beam, and of these the K best."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from tests.decode.paths import next_masked

Partial = tuple[int, ...]
LogProbability = Callable[[Partial, list[int], tuple[int, ...]], np.float32]


def search(
    logits: Callable[[Partial], np.ndarray],
    token_log_prob: LogProbability,
    sids: list[Partial],
    codes: int,
    split: tuple[int, ...],
    beams: int,
    *,
    unmask: str,
    order: list[int] | None = None,
    horizon: int = 1,
    constrained: bool = True,
) -> list[tuple[float, tuple[int, ...]]]:
    """Scores and items (−1 for what is none) of the K best beams, best first; of equal scores the lower items.

    Args:
        logits: one partial SID (V where masked) → log-probabilities [S, V].
        gain: of a partial SID, the digits it reveals and their codes.
        sids: of the items, in the order of their numbers.
        split: digits that each evaluation reveals.
    """
    H = len(sids[0])
    number = {sid: item for item, sid in enumerate(sids)}
    prefixes = {
        tuple(c if h in shown else codes for h, c in enumerate(s))
        for s in sids
        for r in range(H + 1)
        for shown in _subsets(H, r)
    }

    def parts(partial: Partial) -> list[Partial]:
        return [partial[start : start + H] for start in range(0, len(partial), H)]

    kept: list[tuple[float, Partial]] = [(np.float32(0), (codes,) * (horizon * H))]
    for count in split:
        grown = []
        for score, partial in kept:
            digits = next_masked(logits(partial), partial, unmask, order, codes)[:count]
            for values in itertools.product(range(codes), repeat=count):
                child = list(partial)
                for digit, value in zip(digits, values, strict=True):
                    child[digit] = value
                if not constrained or all(part in prefixes for part in parts(tuple(child))):
                    grown.append((score + token_log_prob(partial, digits, values), tuple(child)))
        kept = sorted(grown, key=lambda entry: -entry[0])[:beams]
    found = [
        (float(score), tuple(number.get(part, -1) for part in parts(partial))) for score, partial in kept
    ]
    return sorted(
        found, key=lambda entry: (-entry[0], [item if item >= 0 else len(sids) for item in entry[1]])
    )


def _subsets(digits: int, size: int) -> itertools.combinations:
    return itertools.combinations(range(digits), size)


def apart(logits: Callable[[Partial], np.ndarray]) -> LogProbability:
    """Digits that are independent of each other given what is visible, added one after another in float32."""

    def token_log_prob(partial: Partial, digits: list[int], values: tuple[int, ...]) -> np.float32:
        logp = logits(partial)
        return sum(
            (logp[digit, value] for digit, value in zip(digits, values, strict=True)), start=np.float32(0)
        )

    return token_log_prob
