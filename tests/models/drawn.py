"""Masked items of the training batches that a model draws."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def masked_items(items: np.ndarray, weights: np.ndarray) -> Iterator[tuple[list[int], np.ndarray, int]]:
    """Yield each item with a masked digit.

    Args:
        items: int [B, n], −1 at padding.
        weights: loss weights of the digits [B, n, H], 0 where a digit is visible.

    Yields:
        The item's sequence without padding, the weights [n', H] of the sequence, and the item's position.
    """
    for row, weight in zip(items, weights, strict=True):
        sequence = [int(item) for item in row if item >= 0]
        weight = weight[-len(sequence) :]
        for position in np.flatnonzero((weight > 0).any(1)):
            yield sequence, weight, int(position)
