"""The item nearest to a semantic ID that no item has: an alternative to constrained beams."""

from __future__ import annotations

import torch
from torch import Tensor

from pipelines.decode.sid_index import SidIndex

CELLS = 1 << 24  # largest number of pairs of a semantic ID and an item that are compared at once


def nearest_items(codes: Tensor, index: SidIndex) -> Tensor:
    """Return the item that shares most digits with each semantic ID.

    Of items that share equally many, the one that shares earlier digits comes first, since residual codes go
    from coarse to fine; then the item with the lowest number.

    Args:
        codes: semantic IDs, int64 [M, H].
        index: the catalogue.

    Returns:
        Rows of the index, int64 [M].
    """
    nearest = []
    for part in codes.split(max(1, CELLS // len(index.sids))):
        common = torch.zeros((len(part), len(index.sids)), dtype=torch.int32, device=codes.device)  # [M', N]
        for h in range(index.digits):
            common += part[:, h, None] == index.sids[:, h]
        best = common == common.amax(1, keepdim=True)
        for h in range(index.digits):
            shared = best & (part[:, h, None] == index.sids[:, h])
            best = torch.where(shared.any(1, keepdim=True), shared, best)
        nearest.append(best.byte().argmax(1))
    return torch.cat(nearest) if nearest else codes.new_empty(0)
