"""The item nearest to a semantic ID that no item has: an alternative to constrained beams."""

from __future__ import annotations

import torch
from torch import Tensor

from pipelines.decode.index import PartialIndex

CELLS = 1 << 24  # largest number of pairs of a semantic ID and an item that are compared at once


def nearest_items(codes: Tensor, index: PartialIndex) -> Tensor:
    """Return the item that shares most digits with each semantic ID.

    Of items that share equally many, the one that shares earlier digits comes first, since residual codes go
    from coarse to fine; then the item with the lowest number.

    Args:
        codes: semantic IDs, int64 [M, H].
        index: the catalogue.

    Returns:
        Rows of the index, int64 [M].
    """
    H = index.digits
    positions = torch.arange(H - 1, -1, -1, device=codes.device)
    weights = (2**H + 2**positions).to(torch.int32)  # [H]: the number of shared digits, then their positions
    nearest = []
    for part in codes.split(max(1, CELLS // len(index.sids))):
        common = torch.zeros((len(part), len(index.sids)), dtype=torch.int32, device=codes.device)  # [M', N]
        for h in range(H):
            common += weights[h] * (part[:, h, None] == index.sids[:, h])
        nearest.append(common.argmax(1))
    return torch.cat(nearest) if nearest else codes.new_empty(0)
