"""Residual k-means: each digit clusters what the digits before it leave of the vectors (paper, section 4.1)."""

from __future__ import annotations

import numpy as np

from pipelines.progress import Progress
from pipelines.tokenize.config import TokenizeConfig
from pipelines.tokenize.quantization import Quantization, kmeans_by_digit


def quantize(vectors: np.ndarray, config: TokenizeConfig, progress: Progress) -> Quantization:
    """Cluster the vectors [N, D], then what the centroids leave of them, and so on, m times."""
    return kmeans_by_digit(vectors, [slice(None)] * config.num_levels, config, progress, "Residual k-means")
