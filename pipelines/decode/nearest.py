"""The item nearest to a semantic ID that no item has: an alternative to constrained beams."""

from __future__ import annotations

import torch
from torch import Tensor

from pipelines.decode.index import PartialIndex

CELLS = 1 << 24  # of beams × items compared at once


def nearest_items(codes: Tensor, index: PartialIndex) -> Tensor:
    """The items that share most digits with each of M semantic IDs; of equally many the one that shares earlier digits, then the first.

    Earlier digits count first among equals, since residual codes go from coarse to fine.

    Args:
        codes: int64 [M, H].

    Returns:
        int64 [M].
    """
    H = index.digits
    shared = (2**H + 2 ** torch.arange(H - 1, -1, -1, device=codes.device)).to(
        torch.int32
    )  # [H]: how many, then which
    found = []
    for part in codes.split(max(1, CELLS // len(index.sids))):
        common = torch.zeros((len(part), len(index.sids)), dtype=torch.int32, device=codes.device)  # [M', N]
        for h in range(H):
            common += shared[h] * (part[:, h, None] == index.sids[:, h])
        found.append(common.argmax(1))
    return torch.cat(found) if found else codes.new_empty(0)
