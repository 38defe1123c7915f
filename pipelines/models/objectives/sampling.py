"""Losses over a sample of the catalogue, for catalogues that are too large for a softmax over all items.

A range of items is cut into equal parts. Two items of each part are drawn, and stand for all of its items.
The sum over the range is so estimated without bias (stratified sampling; Cochran 1977, "Sampling
Techniques", chapter 5), and exactly where the parts have two items at most. The logarithm of an estimated
sum is too small on average, by half its relative variance; the difference of the two items of each part
estimates that variance (equation 5.12 there), which is added, so that the bias falls with the square of the
number of parts.

Shapes: R states, N items, D width, K items drawn, n items of a history.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.models.objectives.repeat_bias import RepeatBias
from pipelines.models.objectives.soft_targets import TeacherItems

Vectors = Callable[[Tensor], Tensor]  # items [Q] → their vectors [Q, D]
TAUGHT = 12  # draws of teachers' items that a state is compared with, where the catalogue is sampled


@dataclass(frozen=True, eq=False)
class Sample:
    """Places drawn from R ranges.

    Attributes:
        places: int64 [R, K], ascending, the two of a part side by side.
        counts: number of places that each stands for, float32 [R, K]; 0 where a place does not count.
        remaining: share of a part that is not drawn, float32 [R, K / 2].
    """

    places: Tensor
    counts: Tensor
    remaining: Tensor

    def log_sum(self, drawn: Tensor, *others: Tensor) -> Tensor:
        """Estimate the logarithms of sums, each over a range and some further terms.

        Args:
            drawn: logarithms of the terms at the drawn places, [R, K]; −inf for no term.
            *others: logarithms of further terms, [R, …] each.

        Returns:
            [R].
        """
        drawn = drawn + self.counts.log()
        total = torch.cat((*others, drawn), dim=1).logsumexp(1, keepdim=True)  # [R, 1]
        shares = (drawn - total).exp().unflatten(1, (-1, 2))  # [R, K / 2, 2]
        variance = ((shares[..., 0] - shares[..., 1]).square() * self.remaining).sum(1)  # relative, [R]
        return total.squeeze(1) + variance / 2


def draw(sizes: Tensor, parts: int) -> Sample:
    """Cut ranges into parts of equal size, apart from rounding, and draw two places of each part uniformly.

    Args:
        sizes: number of places of each range, int64 [R], on the device of the results; none of them 0.
        parts: K / 2.
    """
    bounds = torch.arange(parts + 1, device=sizes.device) * sizes[:, None] // parts  # [R, K / 2 + 1]
    begin, size = bounds[:, :-1], bounds.diff()  # [R, K / 2]
    uniform = torch.rand((2, *size.shape), dtype=torch.float64, device=sizes.device)
    first, second = (uniform[0] * size).long(), (uniform[1] * (size - 1).clamp(min=0)).long()
    second = torch.minimum(second + (second >= first), (size - 1).clamp(min=0))  # another one if there is one
    within = torch.stack((torch.minimum(first, second), torch.maximum(first, second)), dim=2)
    counts = torch.stack((torch.where(size > 1, size / 2, size), torch.where(size > 1, size / 2, 0)), dim=2)
    places = torch.minimum(begin[..., None] + within, sizes[:, None, None] - 1)
    return Sample(places.flatten(1), counts.flatten(1).float(), (1 - 2 / size).clamp(min=0).float())


def sampled_loss(
    states: Tensor,
    vectors: Vectors,
    N: int,
    items: Tensor,
    weights: Tensor,
    negatives: int,
    smoothing: float = 0.0,
    repeat_bias: RepeatBias | None = None,
    teacher: TeacherItems | None = None,
) -> Tensor:
    """Compute a softmax loss over the true item, the items of the history if they have a bias, those of
    teachers, and a sample of all other items, the same for all states.

    Args:
        states: [R, D].
        vectors: function from items [Q] to their vectors [Q, D].
        N: number of items.
        items: true items, int64 [R].
        weights: loss weights [R].
        negatives: number of items drawn, rounded up to an even number; from N on, the loss is that over the
            whole catalogue.
        smoothing: label smoothing, see `losses.softmax_loss`; the mean over all items is estimated.
        repeat_bias: repeat bias of the states' histories; None for none.
        teacher: items of teachers, which share the targets with the true items; None for none.
    """
    sample = draw(torch.full((1,), N, device=states.device), -(-min(negatives, N) // 2))
    drawn = sample.places[0]  # [K]
    logits = (states @ vectors(drawn).T).float()  # [R, K]
    true = (states * vectors(items)).sum(1).float()  # [R]
    mean = logits @ (sample.counts[0] / N)  # [R]
    logits, apart = _without(logits, drawn, items[:, None]), []
    if repeat_bias is not None:
        true = true + repeat_bias.of_items(items)
        mean = mean + repeat_bias.mean(N)
        logits = _without(logits, drawn, repeat_bias.history)
        history = repeat_bias.logits(states, vectors)  # [R, n]
        apart = [history.masked_fill(repeat_bias.history == items[:, None], -torch.inf)]
    if teacher is not None:
        teacher = teacher.drawn(TAUGHT)
        taught = pair_logits(states, vectors, teacher.items, repeat_bias)
        others = teacher.others(items, None if repeat_bias is None else repeat_bias.history)
        logits = _without(logits, drawn, others)
        apart.append(taught.masked_fill(others < 0, -torch.inf))
        mean_true = teacher.mean_logits(items, true, taught)
    else:
        mean_true = true
    total = sample.log_sum(logits, true[:, None], *apart)
    return (total - (1 - smoothing) * mean_true - smoothing * mean) @ weights


def pair_logits(states: Tensor, vectors: Vectors, items: Tensor, repeat_bias: RepeatBias | None) -> Tensor:
    """Return the logits of some items of each state, float32 [R, K].

    Args:
        states: [R, D].
        vectors: function from items [Q] to their vectors [Q, D].
        items: int64 [R, K].
        repeat_bias: repeat bias of the states' histories; None for none.
    """
    known = vectors(items.flatten()).view(*items.shape, -1)  # [R, K, D]
    logits = (known @ states[:, :, None]).squeeze(2).float()
    if repeat_bias is None:
        return logits
    return logits + repeat_bias.scale * (items[:, :, None] == repeat_bias.history[:, None]).sum(2)


def _without(logits: Tensor, drawn: Tensor, items: Tensor) -> Tensor:
    """Return logits [R, K] of drawn items, ascending int64 [K], with −inf at some items of each row: int64
    [R, n], −1 for none.
    """
    place = torch.searchsorted(drawn, items).clamp_(max=len(drawn) - 1)  # [R, n]
    found = torch.where(drawn[place] == items, -torch.inf, 0.0)
    return logits.scatter_add(1, place, found)


def gbce_loss(
    states: Tensor,
    vectors: Vectors,
    N: int,
    items: Tensor,
    weights: Tensor,
    negatives: int,
    calibration: float,
) -> Tensor:
    """Compute the generalized binary cross-entropy of gSASRec.

    Source: Petrov and Macdonald 2023, arXiv 2308.07192, section 5.

    −(β log σ(s⁺) + Σ log(1 − σ(s⁻))) / (k + 1) with k negatives, β = α (t (1 − 1/α) + 1/α) and the sampling
    rate α = k / (N − 1). At t = 1 the logits are calibrated as with all negatives; at t = 0 it is plain
    binary cross-entropy. The negatives are drawn uniformly, the same for all states. A negative that is the
    true item is left out.

    Args:
        states: [R, D].
        vectors: function from items [Q] to their vectors [Q, D].
        N: number of items.
        items: true items, int64 [R].
        weights: loss weights [R].
        negatives: k.
        calibration: t.
    """
    alpha = negatives / (N - 1)
    beta = alpha * (calibration * (1 - 1 / alpha) + 1 / alpha)
    drawn = torch.randint(N, (negatives,), device=states.device)
    true = (states * vectors(items)).sum(1).float()  # [R]
    others = (states @ vectors(drawn).T).float()  # [R, k]
    log_rejections = F.logsigmoid(-others).masked_fill(items[:, None] == drawn, 0.0).sum(1)  # [R]
    return -(beta * F.logsigmoid(true) + log_rejections) / (negatives + 1) @ weights
