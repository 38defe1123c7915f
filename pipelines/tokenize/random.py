"""Random semantic IDs, which say nothing of an item: what content is worth, by comparison (paper, table 2)."""

from __future__ import annotations

import math

import numpy as np

from pipelines.errors import UserError
from pipelines.progress import Progress
from pipelines.tokenize.config import TokenizeConfig
from pipelines.tokenize.quantization import Quantization


def quantize(vectors: np.ndarray, config: TokenizeConfig, progress: Progress) -> Quantization:
    """H = m + 1 digits drawn evenly, distinct by construction; of the vectors [N, D] only N counts.

    The last digit is drawn like the others: that of the other methods, nearly always 0, would leave H − 1 to learn.

    Raises:
        UserError: there are fewer SIDs than items.
    """
    N, H, V = len(vectors), config.num_levels + 1, config.codebook
    if V**H < N:
        raise UserError(
            f"--sids {config.num_levels} with --codebook {V} makes {V**H:,} SIDs, fewer than the {N:,} items. Use more of either."
        )
    rng = np.random.default_rng(config.seed)
    fit = min(H, int(62 / math.log2(V)))  # digits of a number below 2^62: distinct numbers are distinct SIDs
    numbers = rng.choice(V**fit, N, replace=False)
    digits = np.column_stack(
        [rng.integers(V, size=(N, H - fit)), numbers[:, None] // V ** np.arange(fit) % V]
    )  # [N, H]
    return Quantization(digits[:, :-1], last=digits[:, -1])
