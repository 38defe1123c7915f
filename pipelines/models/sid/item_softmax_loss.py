"""Losses of the item softmax (`item_softmax`).

Shapes: H digits per item, N items, D width, R states, Q pairs of a state and an item.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.data.candidates import CandidateIndex
from pipelines.models.nn.packing import to_device
from pipelines.models.objectives.losses import sampled_loss, softmax_loss
from pipelines.models.objectives.repeat_bias import RepeatBias


@dataclass(frozen=True, eq=False)
class ItemTargets:
    """Targets of R states.

    Attributes:
        items: true items, int64 [R].
        masked: masked digits of the items, bool [R, H], on the host; the other digits are visible.
        weights: loss weights, [R].
    """

    items: Tensor
    masked: Tensor
    weights: Tensor


def item_softmax_loss(
    states: Tensor,
    vectors: Tensor,
    sids: Tensor,
    targets: ItemTargets,
    *,
    smoothing: float = 0.0,
    repeat_bias: RepeatBias | None = None,
) -> Tensor:
    """Compute the weighted sum of −log p(item | state, visible digits), comparing every state with every
    item.

    Args:
        states: [R, D].
        vectors: w, [N, D].
        sids: int64 [N, H].
        targets: of the states.
        smoothing: share of a fully masked item's target that is spread over all items (Szegedy et al. 2016).
            Smoothing changes what is estimated, towards a uniform distribution.
        repeat_bias: of the states' histories.

    Returns:
        A float32 scalar.
    """
    items, masked, weights = targets.items, targets.masked, targets.weights
    fully = masked.all(1)
    full = to_device(fully.nonzero().squeeze(1), states.device)
    bias = repeat_bias.select(full) if repeat_bias else None
    loss = softmax_loss(states[full], vectors, items[full], weights[full], smoothing, bias)
    rows = (~fully).nonzero().squeeze(1)
    part = to_device(rows, states.device)
    logits = (states[part] @ vectors.T).float()  # [R', N]
    if repeat_bias:
        logits = repeat_bias.select(part).add_to(logits)
    agreeing = agree(sids, sids[items[part]], to_device(masked[rows], states.device))  # [R', N]
    logits = logits.masked_fill_(~agreeing, -torch.inf)
    return loss + F.cross_entropy(logits, items[part], reduction="none") @ weights[part]


def sampled_item_softmax_loss(
    states: Tensor,
    vectors: Callable[[Tensor], Tensor],
    candidates: CandidateIndex,
    targets: ItemTargets,
    *,
    negatives: int,
    smoothing: float = 0.0,
) -> Tensor:
    """Compute `item_softmax_loss` for catalogues that are too large to compare every state with every item.

    Fully masked items are compared with items drawn uniformly (`losses.sampled_loss`). Partly masked items
    are compared with all items that agree, which are few; the host must know their number and waits for a GPU
    here.

    Args:
        states: [R, D].
        vectors: a function from items [Q] to w, [Q, D].
        candidates: candidate index of the catalogue.
        targets: of the states.
        negatives: number of items drawn.
        smoothing: as in `item_softmax_loss`; the mean over the drawn items estimates the mean over all items.

    Returns:
        A float32 scalar.
    """
    items, masked, weights = targets.items, targets.masked, targets.weights
    fully = masked.all(1)
    full = to_device(fully.nonzero().squeeze(1), states.device)
    N = len(candidates.sids)
    loss = sampled_loss(states[full], vectors, N, items[full], weights[full], negatives, smoothing)
    rows = (~fully).nonzero().squeeze(1)
    if not len(rows):
        return loss
    part = to_device(rows, states.device)
    true = (states[part] * vectors(items[part])).sum(1).float()  # [R'], logits of the true items
    hidden = to_device(masked[rows], states.device)
    codes = torch.where(hidden, candidates.codes, candidates.sids[items[part]])  # [R', H]
    row, item = candidates.pairs(codes)  # [Q]
    logits = (states[part][row] * vectors(item)).sum(1).float()  # [Q]
    lowest = logits.detach().new_full((len(part),), -torch.inf)
    largest = lowest.scatter_reduce_(0, row, logits.detach(), "amax")  # [R']
    total = torch.zeros_like(largest).index_add(0, row, (logits - largest[row]).exp())
    return loss + (total.log() + largest - true) @ weights[part]


def agree(sids: Tensor, visible: Tensor, masked: Tensor) -> Tensor:
    """Find the items that agree with partial semantic IDs.

    Args:
        sids: of the catalogue, int64 [N, H].
        visible: codes, int64 [R, H].
        masked: bool [R, H], where the codes do not count.

    Returns:
        bool [R, N].
    """
    same = torch.ones((len(visible), len(sids)), dtype=torch.bool, device=sids.device)
    for column, code, hidden in zip(sids.T.contiguous(), visible.T, masked.T, strict=True):
        same &= hidden[:, None] | (code[:, None] == column)
    return same
