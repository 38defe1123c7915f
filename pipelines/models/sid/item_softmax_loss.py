"""Losses of the item softmax (`item_softmax`).

Shapes: H digits per item, N items, D width, R states, Q items of a lookup, K items drawn for a state, n items
of a history.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.data.candidates import CandidateIndex
from pipelines.models.nn.packing import to_device
from pipelines.models.objectives.losses import softmax_loss
from pipelines.models.objectives.repeat_bias import RepeatBias
from pipelines.models.objectives.sampling import TAUGHT, draw, pair_logits, sampled_loss
from pipelines.models.objectives.soft_targets import TeacherItems, soft_cross_entropy

AGREEING = 64  # items that a partly masked item is compared with, at most, where the catalogue is sampled


@dataclass(frozen=True, eq=False)
class ItemTargets:
    """Targets of R states.

    Attributes:
        items: true items, int64 [R].
        masked: masked digits of the items, bool [R, H], on the host; the other digits are visible.
        weights: loss weights, [R].
        teacher: items of teachers, which share the targets with the true items; None for none.
    """

    items: Tensor
    masked: Tensor
    weights: Tensor
    teacher: TeacherItems | None = None

    def teacher_of(self, rows: Tensor, sids: Tensor | None = None) -> TeacherItems | None:
        """Return the teachers' items of some states.

        Args:
            rows: int64 [R'], on the host.
            sids: semantic IDs of the catalogue, of partly masked items: only items that agree remain.
        """
        if self.teacher is None:
            return None
        device = self.items.device
        chosen = to_device(rows, device)
        teacher = self.teacher.select(chosen)
        if sids is None:
            return teacher
        return teacher.agreeing(sids, self.items[chosen], to_device(self.masked[rows], device))


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
        sids: integers [N, H].
        targets: of the states.
        smoothing: share of a fully masked item's target that is spread over all items (Szegedy et al. 2016).
            Smoothing changes what is estimated, towards a uniform distribution.
        repeat_bias: of the states' histories.

    Returns:
        A float32 scalar.
    """
    items, masked, weights = targets.items, targets.masked, targets.weights
    fully = masked.all(1)
    whole = fully.nonzero().squeeze(1)
    full = to_device(whole, states.device)
    bias = repeat_bias.select(full) if repeat_bias else None
    teacher = targets.teacher_of(whole)
    loss = softmax_loss(states[full], vectors, items[full], weights[full], smoothing, bias, teacher)
    rows = (~fully).nonzero().squeeze(1)
    part = to_device(rows, states.device)
    logits = (states[part] @ vectors.T).float()  # [R', N]
    if repeat_bias:
        logits = repeat_bias.select(part).add_to(logits)
    agreeing = agree(sids, sids[items[part]], to_device(masked[rows], states.device))  # [R', N]
    logits = logits.masked_fill_(~agreeing, -torch.inf)
    teacher = targets.teacher_of(rows, sids)
    if teacher is None:
        losses = F.cross_entropy(logits, items[part], reduction="none")
    else:
        losses = soft_cross_entropy(logits, *teacher.mixed(items[part]))
    return loss + losses @ weights[part]


def sampled_item_softmax_loss(
    states: Tensor,
    vectors: Callable[[Tensor], Tensor],
    candidates: CandidateIndex,
    targets: ItemTargets,
    *,
    negatives: int,
    smoothing: float = 0.0,
    repeat_bias: RepeatBias | None = None,
) -> Tensor:
    """Compute `item_softmax_loss` for catalogues that are too large to compare every state with every item.

    Fully masked items are compared with a sample of the catalogue (`sampling.sampled_loss`), and partly
    masked items with a sample of the items that agree, up to `AGREEING`, or with all of them where they are
    not more. A step costs the same whatever the catalogue.

    Args:
        states: [R, D].
        vectors: a function from items [Q] to w, [Q, D].
        candidates: candidate index of the catalogue.
        targets: of the states.
        negatives: number of items drawn for fully masked items.
        smoothing: as in `item_softmax_loss`; the mean over all items is estimated.
        repeat_bias: of the states' histories, whose items are compared apart from the sample.

    Returns:
        A float32 scalar.
    """
    items, masked, weights = targets.items, targets.masked, targets.weights
    fully = masked.all(1)
    whole, rows = (chosen.nonzero().squeeze(1) for chosen in (fully, ~fully))
    full, part = to_device(whole, states.device), to_device(rows, states.device)
    loss = sampled_loss(
        *(states[full], vectors, len(candidates.sids), items[full], weights[full], negatives, smoothing),
        repeat_bias=repeat_bias.select(full) if repeat_bias else None,
        teacher=targets.teacher_of(whole),
    )
    if not len(part):
        return loss
    bias = repeat_bias.select(part) if repeat_bias else None
    true, total = _among_agreeing(
        *(states[part], vectors, candidates, items[part], masked[~fully], bias),
        targets.teacher_of(rows, candidates.sids),
    )
    return loss + (total - true) @ weights[part]


def _among_agreeing(
    states: Tensor,
    vectors: Callable[[Tensor], Tensor],
    candidates: CandidateIndex,
    items: Tensor,
    masked: Tensor,
    repeat_bias: RepeatBias | None,
    teacher: TeacherItems | None,
) -> tuple[Tensor, Tensor]:
    """Compare partly masked items with a sample of the items that agree with their visible digits.

    Args:
        states: of R partly masked items, [R, D].
        vectors: a function from items [Q] to w, [Q, D].
        candidates: candidate index of the catalogue.
        items: true items, int64 [R].
        masked: their masked digits, bool [R, H], on the host.
        repeat_bias: of the states' histories, whose items are compared apart from the sample.
        teacher: items of teachers that agree, which are compared apart too; None for none.

    Returns:
        Logits of the true items (with teachers, mean logits of the targets), and logarithms of the sums over
        all items that agree, float32 [R] each.
    """
    codes = candidates.sids[items].long()  # [R, H]
    codes = codes.masked_fill(to_device(masked, states.device), candidates.codes)
    parts, sizes = list(candidates.ranges(codes, ~masked)), items.clone()
    for part in parts:
        sizes[part.rows] = part.sizes
    sample, drawn = draw(sizes, AGREEING // 2), items[:, None].repeat(1, AGREEING)  # [R, K]
    for part in parts:
        drawn[part.rows] = part.order[part.begin[:, None] + sample.places[part.rows]].long()
    drawn = torch.where(sample.counts > 0, drawn, items[:, None])
    true = (states * vectors(items)).sum(1).float()  # [R]
    known = vectors(drawn.flatten()).view(*drawn.shape, -1)  # [R, K, D]
    logits = (known @ states[:, :, None]).squeeze(2).float()
    logits, apart = logits.masked_fill(drawn == items[:, None], -torch.inf), []
    if repeat_bias is not None:
        history, true = repeat_bias.history, true + repeat_bias.of_items(items)  # [R, n], [R]
        logits = logits.masked_fill((drawn[:, :, None] == history[:, None, :]).any(2), -torch.inf)
        known = candidates.sids[history.clamp(min=0)]  # [R, n, H]
        same = (known == codes[:, None]) | (codes[:, None] == candidates.codes)
        left_out = ~same.all(2) | (history == items[:, None])
        apart = [repeat_bias.logits(states, vectors).masked_fill(left_out, -torch.inf)]  # [R, n]
    if teacher is None:
        return true, sample.log_sum(logits, true[:, None], *apart)
    teacher = teacher.drawn(TAUGHT)
    taught = pair_logits(states, vectors, teacher.items, repeat_bias)
    others = teacher.others(items, None if repeat_bias is None else repeat_bias.history)
    logits = logits.masked_fill((drawn[:, :, None] == others[:, None, :]).any(2), -torch.inf)
    total = sample.log_sum(logits, true[:, None], *apart, taught.masked_fill(others < 0, -torch.inf))
    return teacher.mean_logits(items, true, taught), total


def agree(sids: Tensor, visible: Tensor, masked: Tensor) -> Tensor:
    """Find the items that agree with partial semantic IDs.

    Args:
        sids: of the catalogue, integers [N, H].
        visible: codes, integers [R, H].
        masked: bool [R, H], where the codes do not count.

    Returns:
        bool [R, N].
    """
    same = torch.ones((len(visible), len(sids)), dtype=torch.bool, device=sids.device)
    for column, code, hidden in zip(sids.T.contiguous(), visible.T, masked.T, strict=True):
        same &= hidden[:, None] | (code[:, None] == column)
    return same
