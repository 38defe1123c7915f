"""Random semantic IDs, which do not depend on the items.

Comparison with them shows what content is worth (paper, table 2).
"""

from __future__ import annotations

import math

import numpy as np

from pipelines.errors import UserError
from pipelines.progress import Progress
from pipelines.tokenize.config import TokenizeConfig
from pipelines.tokenize.quantization import Quantization


def quantize(vectors: np.ndarray, config: TokenizeConfig, progress: Progress) -> Quantization:
    """Draw H = m + 1 digits per item uniformly; the SIDs are distinct by construction.

    The last digit is drawn like the others. The deduplication digit of the other methods, which is nearly
    always 0, would leave only H − 1 digits to learn.

    Args:
        vectors: float32 [N, D], of which only N is used.

    Raises:
        UserError: there are fewer SIDs than items.
    """
    N, H, V = len(vectors), config.num_levels + 1, config.codebook
    if V**H < N:
        raise UserError(
            f"--sids {config.num_levels} with --codebook {V} makes {V**H:,} SIDs, fewer than the {N:,} "
            "items. Use more of either."
        )
    rng = np.random.default_rng(config.seed)
    # The last digits come from distinct numbers below 2^62, which makes the SIDs distinct.
    count = min(H, int(62 / math.log2(V)))
    numbers = rng.choice(V**count, N, replace=False)  # [N]
    first = rng.integers(V, size=(N, H - count))  # [N, H − count]
    last = numbers[:, None] // V ** np.arange(count) % V  # [N, count]
    digits = np.column_stack([first, last])  # [N, H]
    return Quantization(digits[:, :-1], last=digits[:, -1])


def extend(sids: np.ndarray, count: int, codebook: int, seed: int) -> np.ndarray:
    """Draw semantic IDs for new items that no item has, int64 [new, H].

    The draw of an item depends on the seed, its number and the semantic IDs that are taken: one extension
    equals two, one after the other.

    Args:
        sids: semantic IDs of the old items, int [n, H].
        count: number of all items, N.
        codebook: V.

    Raises:
        UserError: there are fewer SIDs than items.
    """
    H = sids.shape[1]
    if codebook**H < count:
        raise UserError(
            f"The {codebook**H:,} random SIDs of {H} digits are fewer than the {count:,} items. Run "
            "`maskgr tokenize --force` with more digits or codes."
        )
    places = [codebook ** (H - 1 - h) for h in range(H)]  # Python numbers, because V^H may need many bits

    def number_of(digits: list[int]) -> int:
        return sum(code * place for code, place in zip(digits, places, strict=True))

    taken = {number_of(row) for row in sids.tolist()}
    new = []
    for item in range(len(sids), count):
        digits: list[int] = np.random.default_rng([seed, item]).integers(codebook, size=(H,)).tolist()
        number = number_of(digits)
        while number in taken:
            number = (number + 1) % codebook**H
        taken.add(number)
        new.append([number // place % codebook for place in places])
    return np.array(new, np.int64).reshape(-1, H)
