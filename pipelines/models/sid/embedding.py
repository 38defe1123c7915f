"""Digit embeddings that start where their codes lie in the space of the texts, instead of anywhere.

Shapes: N items, H digits, V codes, E text, D width.
"""

from __future__ import annotations

import numpy as np


def digit_centroids(sids: np.ndarray, codes: int, text: np.ndarray, width: int) -> np.ndarray:
    """What a code adds to an item's text: the mean, over the items that have it, of what the digits before it leave.

    For residual k-means these are its centroids. The texts are centred, brought to a mean square length of 1, and turned to their first
    D principal axes (with zeros after them where E < D), so that an item's digits sum to an approximation of its text. The last digit
    only tells equals apart and has none.

    Args:
        sids: [N, H].
        codes: V.
        text: float32 [N, E].
        width: D.

    Returns:
        float32 [H − 1, V, D], 0 for codes that no item has.
    """
    centred = text - text.mean(0)
    axes = np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :width]  # [E, min(E, D)], the longest first
    left = np.zeros((len(text), width), np.float32)
    left[:, : axes.shape[1]] = centred @ axes
    left /= np.sqrt(np.maximum((centred**2).sum(1).mean(), np.finfo(np.float32).tiny))
    found = np.zeros((sids.shape[1] - 1, codes, width), np.float32)
    for digit, column in zip(found, sids.T, strict=False):
        np.add.at(digit, column, left)
        digit /= np.maximum(np.bincount(column, minlength=codes), 1)[:, None]
        left -= digit[column]
    return found
