"""What a model drew to train on, item by item."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def masked_items(items: np.ndarray, weights: np.ndarray) -> Iterator[tuple[list[int], np.ndarray, int]]:
    """Each item with a masked digit, of [B, n] items: its sequence without padding, the sequence's weights [n, H], its place there."""
    for row, weight in zip(items, weights, strict=True):
        real = [int(item) for item in row if item >= 0]
        weight = weight[-len(real) :]
        for place in np.flatnonzero((weight > 0).any(1)):
            yield real, weight, int(place)
