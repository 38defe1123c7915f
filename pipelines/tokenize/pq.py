"""Product quantisation: each digit clusters columns of its own (Jégou, Douze, Schmid, TPAMI 2011)."""

from __future__ import annotations

import numpy as np

from pipelines.errors import UserError
from pipelines.progress import Progress
from pipelines.tokenize.config import TokenizeConfig
from pipelines.tokenize.quantization import Quantization, kmeans_by_digit


def quantize(vectors: np.ndarray, config: TokenizeConfig, progress: Progress) -> Quantization:
    """Cut the columns of the vectors [N, D] into m runs and cluster each.

    Raises:
        UserError: more digits than columns.
    """
    return kmeans_by_digit(
        vectors, columns(vectors.shape[1], config), config, progress, "Product quantisation"
    )


def columns(D: int, config: TokenizeConfig) -> list[np.ndarray]:
    """The columns of each of the m digits: runs as equal as can be, so that m need not divide D.

    Raises:
        UserError: more digits than columns.
    """
    if config.num_levels > D:
        raise UserError(
            f"--method {config.method} with --sids {config.num_levels} needs embeddings of at least {config.num_levels} dimensions, and these "
            f"have {D}. Use --sids {D} or less, or make wider ones with `maskgr embed`."
        )
    return np.array_split(np.arange(D), config.num_levels)
