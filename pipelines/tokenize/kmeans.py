"""Residual k-means: each digit clusters the residuals of the digits before it (paper, section 4.1)."""

from __future__ import annotations

import numpy as np

from pipelines.progress import Progress
from pipelines.tokenize.config import TokenizeConfig
from pipelines.tokenize.quantization import Quantization, kmeans_by_digit


def quantize(vectors: np.ndarray, config: TokenizeConfig, progress: Progress) -> Quantization:
    """Quantize vectors by m levels of residual k-means.

    Args:
        vectors: float32 [N, D], finite.
    """
    return kmeans_by_digit(vectors, [slice(None)] * config.num_levels, config, progress, "Residual k-means")
