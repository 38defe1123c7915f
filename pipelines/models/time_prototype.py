"""Prototype, not an option: times of interactions beside the sequences (issue 27, part 6).

MASKGR_TIME: empty (none), "gaps" (gap between each item of the history and the one before it), "request" (gaps,
and of the request the gap since the last item, hour of day and weekday, in UTC), or "request-gap" (gaps, and of
the request only the gap). MASKGR_TIMES: folder of the data set, with timestamps in seconds in
interactions.parquet. In training, the request of an item is the time of that item's own interaction.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn

VARIANT = os.environ.get("MASKGR_TIME", "")
BUCKETS = 32  # of log2(1 + seconds); 0 is for the first item, which has no gap
split = "validation"  # whose targets are asked for outside training


@cache
def table() -> tuple[np.ndarray, np.ndarray]:
    """Offsets of the users' sequences, int64 [users + 1]; gap bucket, hour and weekday of each item,
    int64 [total, 3].
    """
    folder = Path(os.environ["MASKGR_TIMES"])
    log = pq.read_table(folder / "interactions.parquet", columns=["user_id", "item_id", "timestamp"])
    times = {(user, item): time for user, item, time in zip(*(column.to_pylist() for column in log.columns))}
    ids = pq.read_table(folder / "items.parquet", columns=["item_id"])["item_id"].to_pylist()
    rows = pq.read_table(folder / "sequences.parquet", columns=["user_id", "items"]).to_pylist()
    offsets = np.cumsum([0, *(len(row["items"]) for row in rows)])
    time = np.array([times[row["user_id"], ids[item]] for row in rows for item in row["items"]])
    gap = np.diff(time, prepend=time[:1])
    first = np.zeros(len(time), bool)
    first[offsets[:-1]] = True
    assert (gap[~first] >= 0).all(), "the sequences are not in order of time"
    bucket = np.where(first, 0, 1 + np.log2(1 + np.where(first, 0, gap)).astype(np.int64))
    assert bucket.max() < BUCKETS
    return offsets, np.stack((bucket, time // 3600 % 24, (time // 86400 + 3) % 7), axis=1)


def features(places: np.ndarray) -> np.ndarray:
    """Features at places of the whole sequences, int64 [..., 3]; any values at negative places."""
    return table()[1][np.maximum(places, 0)]


def of_requests(users: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Features of the last `n` items before the targets of users, [B, n, 3], and of the requests, [B, 3]."""
    ends = table()[0][users.numpy() + 1] - (1 if split == "test" else 2)  # place of the target: leave-one-out
    return torch.as_tensor(features(ends[:, None] + np.arange(-n, 0))), torch.as_tensor(features(ends))


class Times(nn.Module):
    """Embeddings of the features, which start at zero."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gap = nn.Embedding(BUCKETS, width)
        self.request = nn.ModuleList(nn.Embedding(size, width) for size in (BUCKETS, 24, 7))
        for part in (self.gap, *self.request):
            nn.init.zeros_(part.weight)

    def of_history(self, features: Tensor) -> Tensor:
        """[..., 3] → [..., D]: of the gap between an item and the one before it."""
        return self.gap(features[..., 0])

    def of_request(self, features: Tensor) -> Tensor:
        """[..., 3] → [..., D]: of the gap since the last item, of hour and weekday."""
        if VARIANT == "gaps":
            return torch.zeros_like(self.gap(features[..., 0]))
        parts = self.request if VARIANT == "request" else self.request[:1]
        return sum(part(features[..., i]) for i, part in enumerate(parts))
