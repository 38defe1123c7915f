"""Product quantization: each digit clusters its own columns (Jégou, Douze, Schmid, TPAMI 2011)."""

from __future__ import annotations

import numpy as np

from pipelines.errors import UserError
from pipelines.progress import Progress
from pipelines.tokenize.config import TokenizeConfig
from pipelines.tokenize.quantization import Quantization, kmeans_by_digit


def quantize(vectors: np.ndarray, config: TokenizeConfig, progress: Progress) -> Quantization:
    """Quantize vectors by clustering m groups of their columns.

    Args:
        vectors: float32 [N, D], finite.

    Raises:
        UserError: m exceeds D.
    """
    groups = columns(vectors.shape[1], config)
    return kmeans_by_digit(vectors, groups, config, progress, "Product quantization")


def columns(width: int, config: TokenizeConfig) -> list[np.ndarray]:
    """Return the columns of each of the m digits, contiguous groups of sizes as equal as possible.

    m need not divide D.

    Args:
        width: D.

    Raises:
        UserError: m exceeds D.
    """
    if config.num_levels > width:
        raise UserError(
            f"--method {config.method} with --sids {config.num_levels} needs embeddings of at least "
            f"{config.num_levels} dimensions, "
            f"and these have {width}. Use --sids {width} or less, or make wider ones with `maskgr embed`."
        )
    return np.array_split(np.arange(width), config.num_levels)
