"""Co-occurrence: the next item from the items near those of the history in the training sequences.

Sequential rules with weights that fall with the distance (compared with learned models by Ludewig and Jannach
2018, arXiv 1803.09587), in both directions. Nothing is learned: the pairs of items are counted once.

Shapes: B histories, n items of each, N items, Q pairs of an item and one near it."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.data.catalogue import Catalogue
from pipelines.data.groups import Groups
from pipelines.data.sequences import Sequences
from pipelines.models.base import CountedModel, Sampling
from pipelines.models.item_models.config import CooccurrenceConfig
from pipelines.processes import Processes

# First item · N + second item, int64 [pairs]; weights [pairs].
Pairs = tuple[np.ndarray, np.ndarray]
PAIRS = 1 << 22  # pairs that are scored, or waited for before they are added up, at once
WIDTH = 128  # D of the vectors that items are compared by
UNSEEN = 0.5  # interactions that count for an item without any, so that its probability is positive


class Cooccurrence(CountedModel):
    """Counts of pairs of items that are near each other in the training sequences.

    An item's row counts the items near it: those up to `reach` places after it as 1 / distance, those before
    it as `backward` / distance. The rows of a history's items are added, each item weighing `recency` times
    as much as the one after it, and divided by their sum; so an item that is counted often says more than a
    rare one. A share `popularity` of the probability follows the numbers of training interactions; all of it
    where no item of the history has a row. The scores are the logarithms of the probabilities.

    Attributes:
        interactions: number of training interactions of each item, float32 [N].
        offsets: begin of each item's row in the pairs, and their number at the end, int64 [N + 1].
        partners: items of the rows, int32 [Q].
        counts: their counts, float32 [Q].
    """

    config: CooccurrenceConfig
    offsets: Tensor
    partners: Tensor
    counts: Tensor

    def __init__(self, config: CooccurrenceConfig, catalogue: Catalogue) -> None:
        super().__init__()
        self.config, self.items = config, catalogue.items
        self.interactions = nn.Parameter(torch.zeros(catalogue.items), requires_grad=False)
        self.register_buffer("offsets", torch.zeros(catalogue.items + 1, dtype=torch.int64))
        self.register_buffer("partners", torch.zeros(0, dtype=torch.int32))
        self.register_buffer("counts", torch.zeros(0))

    def count(self, sequences: Groups, processes: Processes) -> None:
        """Count the interactions and the pairs of training sequences; see `CountedModel.count`."""
        N, device = self.items, self.interactions.device
        interactions = sequences.item_counts(N, processes)
        pairs, after = count_pairs(sequences, N, self.config.reach, processes)
        first, second = np.divmod(pairs, N)
        both = np.concatenate((pairs, second * N + first))
        pairs, near = _summed((both, np.concatenate((after, self.config.backward * after))))
        first, second = np.divmod(pairs[near > 0], N)
        offsets = np.concatenate([[0], np.bincount(first, minlength=N).cumsum()])
        self.interactions.data = torch.as_tensor(interactions, dtype=torch.float32, device=device)
        self.offsets = torch.as_tensor(offsets, dtype=torch.int64, device=device)
        self.partners = torch.as_tensor(second.astype(np.int32), device=device)
        self.counts = torch.as_tensor(near[near > 0].astype(np.float32), device=device)

    def spread(self, weights: dict[str, Tensor], known: Tensor) -> dict[str, Tensor]:
        """Give the model room for the pairs of weights over some items, and return them over all items; see
        `Recommender.spread`.
        """
        if not _is_whole(weights, len(known)):
            return weights
        offsets, partners = weights["offsets"], weights["partners"]
        lengths = torch.zeros(self.items, dtype=torch.int64)
        lengths[known] = offsets.diff().cpu()
        offsets = torch.cat((torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)))
        partners = known[partners.cpu().long()].int()
        self.partners = self.partners.new_empty(len(partners))
        self.counts = self.counts.new_empty(len(partners))
        return {**weights, "offsets": offsets, "partners": partners}

    def start_items(self, items: Tensor) -> None:
        self.interactions.data[items] = 0.0

    def history_vectors(self) -> Tensor:
        """Return the items' rows, scaled to length 1, on their first singular vectors, float32 [N, D], which
        keep the angles between rows as well as D numbers can.
        """
        from scipy.sparse import csr_matrix
        from sklearn.decomposition import TruncatedSVD
        from sklearn.preprocessing import normalize
        from threadpoolctl import threadpool_limits

        N, device = self.items, self.counts.device
        if not len(self.counts):
            return torch.zeros(N, 1, device=device)
        parts = (tensor.cpu().numpy() for tensor in (self.counts, self.partners, self.offsets))
        rows = normalize(csr_matrix(tuple(parts), shape=(N, N)))
        svd = TruncatedSVD(min(WIDTH, N), random_state=0)
        with threadpool_limits(1, user_api="blas"), np.errstate(divide="ignore", invalid="ignore"):
            return torch.as_tensor(svd.fit_transform(rows).astype(np.float32), device=device)

    def scores(self, history: Tensor, users: Tensor, sampling: Sampling = Sampling()) -> Tensor:
        """Return the log-probabilities of all items; see `ItemRanker.scores`."""
        share, total = self.config.popularity, self.interactions.sum()
        popular = self.interactions.clamp(min=UNSEEN) / total.clamp(min=UNSEEN * self.items)  # [N]
        near = self._near(history)  # [B, N]
        sums = near.sum(1, keepdim=True)  # [B, 1]
        mixed = (1 - share) * near / sums.clamp(min=torch.finfo(sums.dtype).tiny) + share * popular
        return torch.where(sums > 0, mixed, popular).log()

    def _near(self, history: Tensor) -> Tensor:
        """Return the weighted sums of the rows of histories [B, n], float32 [B, N].

        Where they have more pairs than there are pairs of items, whole rows are added in place of pairs.
        """
        (B, n), device = history.shape, history.device
        known = history.clamp(min=0)
        begins = self.offsets[known]
        lengths = (self.offsets[known + 1] - begins).masked_fill(history < 0, 0)  # [B, n]
        weights = self.config.recency ** torch.arange(n - 1, -1, -1, device=device)  # [n]
        if lengths.sum() > self.items**2:
            weights = torch.where(history < 0, 0.0, weights)  # [B, n]
            return F.embedding_bag(known, self._rows(), mode="sum", per_sample_weights=weights)
        result = torch.zeros(B, self.items, device=device)
        for rows in _parts(lengths.sum(1).cumsum(0)):
            size = lengths[rows].flatten()
            place = torch.repeat_interleave(size)  # [q], an item of a history
            within = torch.arange(len(place), device=device) - (size.cumsum(0) - size)[place]
            pair = begins[rows].flatten()[place] + within
            cell = place // n * self.items + self.partners[pair]
            part = result[rows].view(-1)
            part.scatter_add_(0, cell, self.counts[pair] * weights[place % n])
        return result

    def _rows(self) -> Tensor:
        """Return the rows of all items, float32 [N, N]."""
        rows = torch.zeros(self.items, self.items, device=self.counts.device)
        first = torch.repeat_interleave(self.offsets.diff())  # [Q]
        rows[first, self.partners.long()] = self.counts
        return rows


def count_pairs(sequences: Groups, n_items: int, reach: int, processes: Processes) -> Pairs:
    """Count which items come after which: Σ 1 / distance over the pairs of places of a sequence that are at
    most `reach` apart.

    The sums are of whole numbers, multiples of a common part of all 1 / distance, so that they depend neither
    on the order of the groups nor on the number of processes.

    Args:
        sequences: in groups, which the processes share.
        n_items: N.
        reach: largest distance.
        processes: each gets the whole.

    Returns:
        The pairs that occur, ascending, and their sums, float64.
    """
    unit = math.lcm(*range(1, reach + 1))
    none = np.zeros(0, np.int64)
    total: Pairs = (none, none)
    waiting: list[Pairs] = []
    for group in range(processes.rank, len(sequences), processes.count):
        waiting += _pairs(sequences.read(group), n_items, reach, unit)
        if sum(len(pairs) for pairs, _ in waiting) > max(PAIRS, len(total[0])):  # few passes over the total
            total, waiting = _summed(total, *waiting), []
    pairs, weights = _summed(total, *waiting)
    if processes.count > 1:
        pairs, weights = _summed((_gathered(pairs, processes), _gathered(weights, processes)))
    return pairs, weights / unit


def _pairs(sequences: Sequences, n_items: int, reach: int, unit: int) -> Iterator[Pairs]:
    """Yield the pairs at each distance, with weights in units, int64."""
    rows = np.repeat(np.arange(len(sequences)), sequences.lengths)
    items = sequences.items.astype(np.int64)
    for distance in range(1, reach + 1):
        same = rows[:-distance] == rows[distance:]
        pairs = items[:-distance][same] * n_items + items[distance:][same]
        yield pairs, np.full(len(pairs), unit // distance, np.int64)


def _summed(*parts: Pairs) -> Pairs:
    """Return each pair once, ascending, with the sum of its weights."""
    pairs, weights = map(np.concatenate, zip(*parts, strict=True))
    order = np.argsort(pairs, kind="stable")
    pairs = pairs[order]
    begins = np.flatnonzero(np.diff(pairs, prepend=-1))
    return pairs[begins], np.add.reduceat(weights[order], begins) if len(begins) else weights


def _gathered(array: np.ndarray, processes: Processes) -> np.ndarray:
    """Return the arrays of all processes, one after another."""
    sizes = np.zeros(processes.count, np.int64)
    sizes[processes.rank] = len(array)
    ends = processes.total(sizes).cumsum()
    whole = np.zeros(ends[-1], array.dtype)
    whole[ends[processes.rank] - len(array) : ends[processes.rank]] = array
    return processes.total(whole)


def _parts(ends: Tensor) -> Iterator[slice]:
    """Yield slices of rows with at most `PAIRS` pairs together, or of one row.

    Args:
        ends: number of pairs up to the end of each row, int64 [B].
    """
    start, done = 0, 0
    while start < len(ends):
        stop = max(start + 1, int(torch.searchsorted(ends, done + PAIRS, right=True)))
        yield slice(start, stop)
        start, done = stop, int(ends[stop - 1])


def _is_whole(weights: dict[str, Tensor], n_items: int) -> bool:
    """Return True if weights have rows of N' items whose pairs are of these items."""
    if not {"offsets", "partners", "counts"} <= weights.keys():
        return False
    offsets, partners, counts = (weights[name] for name in ("offsets", "partners", "counts"))
    if len(offsets) != n_items + 1 or not len(partners) == len(counts) == offsets[-1]:
        return False
    return not len(partners) or bool(partners.min() >= 0 and partners.max() < n_items)
