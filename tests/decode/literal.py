"""Beam search in plain Python: it builds every combination of codes of every beam and keeps the K best."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from tests.decode.paths import next_masked

Partial = tuple[int, ...]
Logits = Callable[[Partial], np.ndarray]  # one partial SID (V where masked) → log-probabilities [S, V]
TokenLogProb = Callable[[Partial, list[int], tuple[int, ...]], np.float32]


def search(
    logits: Logits,
    token_log_prob: TokenLogProb,
    sids: list[Partial],
    codes: int,
    schedule: tuple[int, ...],
    beams: int,
    *,
    unmask: str,
    order: list[int] | None = None,
    horizon: int = 1,
    constrained: bool = True,
) -> list[tuple[float, tuple[int, ...]]]:
    """Return scores and items (−1 for a part that is no item) of the K best beams, best first.

    Of beams with equal scores the one with lower items comes first.

    Args:
        logits: the model.
        token_log_prob: log-probability of unmasking digits together: a partial SID, the digits and their
            codes → a number.
        sids: semantic IDs in the order of the items' numbers.
        codes: V.
        schedule: number of digits that each function evaluation unmasks.
        beams: K.
        unmask: order of unmasking.
        order: permutation of the digits, for the order "random".
        horizon: k.
        constrained: if true, beams reach only semantic IDs of the catalogue.
    """
    H = len(sids[0])
    number = {sid: item for item, sid in enumerate(sids)}

    def parts(partial: Partial) -> list[Partial]:
        return [partial[start : start + H] for start in range(0, len(partial), H)]

    def agreeing(part: Partial) -> list[Partial]:
        return [sid for sid in sids if all(c in (codes, s) for c, s in zip(part, sid, strict=True))]

    kept: list[tuple[float, Partial]] = [(np.float32(0), (codes,) * (horizon * H))]
    for count in schedule:
        children = []
        for score, partial in kept:
            digits = next_masked(logits(partial), partial, unmask, order, codes)[:count]
            choices = itertools.product(range(codes), repeat=count)
            if constrained:
                choices = {
                    tuple(items[digit // H][digit % H] for digit in digits)
                    for items in itertools.product(*(agreeing(part) for part in parts(partial)))
                }
            for values in sorted(choices):
                child = list(partial)
                for digit, value in zip(digits, values, strict=True):
                    child[digit] = value
                children.append((score + token_log_prob(partial, digits, values), tuple(child)))
        kept = sorted(children, key=lambda entry: -entry[0])[:beams]
    ranked = [
        (float(score), tuple(number.get(part, -1) for part in parts(partial))) for score, partial in kept
    ]
    return sorted(
        ranked, key=lambda entry: (-entry[0], [item if item >= 0 else len(sids) for item in entry[1]])
    )


def independent(logits: Logits) -> TokenLogProb:
    """Return the log-probability of digits that are independent of each other given the visible ones.

    The digits' log-probabilities are added one after another in float32.
    """

    def token_log_prob(partial: Partial, digits: list[int], values: tuple[int, ...]) -> np.float32:
        logp = logits(partial)
        return sum(
            (logp[digit, value] for digit, value in zip(digits, values, strict=True)), start=np.float32(0)
        )

    return token_log_prob
