"""Curves in one line of text."""

from __future__ import annotations

from collections.abc import Sequence

BARS = "▁▂▃▄▅▆▇█"  # from the lowest value to the highest
WIDTH = 40  # characters at most


def sparkline(values: Sequence[float], width: int = WIDTH) -> str:
    """Return values as bars, the lowest as the smallest; equal values as bars of half the height.

    Args:
        values: finite values; more than `width` are averaged in groups of neighbors.
        width: largest number of bars.
    """
    count = min(width, len(values))
    ends = [len(values) * place // count for place in range(count + 1)] if count else []
    means = [sum(values[a:b]) / (b - a) for a, b in zip(ends, ends[1:], strict=False)]
    low, high = (min(means), max(means)) if means else (0.0, 0.0)
    if low == high:
        return BARS[len(BARS) // 2 - 1] * count
    return "".join(BARS[round((mean - low) / (high - low) * (len(BARS) - 1))] for mean in means)
