"""Beam search that unmasks digits in any order, one or several per function evaluation (paper, section 3.2).

Shapes: B users, K beams, k items predicted together, H digits per item, S = k·H digits, V codes per digit, N
items. All beams of all users go through the model in one forward pass per function evaluation. Scores are
float32 sums of log-probabilities."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.data.eligible import Eligible
from pipelines.decode.config import CONFIDENCE, Decoding
from pipelines.decode.nearest import nearest_items
from pipelines.decode.sid_index import SidIndex
from pipelines.decode.state import CELLS, BeamState
from pipelines.decode.top_k import best_first, top
from pipelines.decode.unmask import remask, unmask_by_confidence, unmask_digits
from pipelines.models.denoiser import Denoiser, ItemScores

FEWEST = 1 << 12  # smallest number of items that a block holds
LOWEST = -80.0  # logits further below the largest add nothing to a float32 sum of exp(logit)


@dataclass(frozen=True)
class Beams:
    """The result of a search for B users, best beam first.

    Attributes:
        items: int64 [B, K, k], −1 where that part of the beam is no item.
        scores: float32 [B, K], −inf where there is no beam.
        duplicates: number of beams removed because a better one is the same, int64 [B].
    """

    items: Tensor
    scores: Tensor
    duplicates: Tensor

    @staticmethod
    def of_items(items: Tensor, scores: Tensor) -> Beams:
        """Return ranked items [B, K] with their scores [B, K], from a search without beams; items with score
        −inf do not qualify.
        """
        duplicates = torch.zeros(len(items), dtype=torch.int64, device=items.device)
        return Beams(items.masked_fill(scores.isneginf(), -1)[:, :, None], scores, duplicates)

    def first(self, beams: int) -> Beams:
        """Return the best so many beams of each user."""
        return Beams(self.items[:, :beams], self.scores[:, :beams], self.duplicates)

    @staticmethod
    def where(users: Tensor, one: Beams, other: Beams) -> Beams:
        """Return the beams of `one` for the users where `users` [B] is true, and of `other` for the rest."""
        width = max(one.scores.shape[1], other.scores.shape[1])
        first, second = one._padded(width), other._padded(width)
        return Beams(
            torch.where(users[:, None, None], first.items, second.items),
            torch.where(users[:, None], first.scores, second.scores),
            torch.where(users, first.duplicates, second.duplicates),
        )

    def _padded(self, beams: int) -> Beams:
        """Return these beams and as many that do not exist as to make up the number."""
        added = beams - self.scores.shape[1]
        return Beams(
            F.pad(self.items, (0, 0, 0, added), value=-1),
            F.pad(self.scores, (0, added), value=-torch.inf),
            self.duplicates,
        )

    @property
    def invalid(self) -> Tensor:
        """Number of beams of which some part is no item of the catalogue, int64 [B]."""
        return ((self.items < 0).any(2) & self.scores.isfinite()).sum(1)


@torch.no_grad()
def beam_search(
    denoiser: Denoiser,
    users: Tensor,
    index: SidIndex,
    decoding: Decoding,
    horizon: int = 1,
) -> Beams:
    """Return the K best continuations of each user by k items, S = k·H digits (paper, section 3.2; for k > 1
    section 4.4).

    A function evaluation that unmasks several digits takes them as independent given the visible digits
    (section 3.2), or, with the item softmax, takes their combinations from the items that have them. In both
    cases the K beams kept are the K best combinations of the whole function evaluation, and if constrained
    the K best that some item has (`unmask_digits`). One function evaluation for all digits (T = 1) of one
    item, constrained, scores the whole catalogue instead and needs no beams.

    Of beams with equal scores, that of the lower item comes first.

    No two beams can be the same: all children of a beam unmask the same digit, each with another code, so
    that two beams differ in the digit where they parted. The result is checked for it all the same.
    Remasking, and digits that compete (`--unmask confidence`), may lead two beams to the same partial SID;
    the better one stays.

    Args:
        denoiser: the model, conditioned on the users' histories.
        users: user numbers, int64 [B]; they seed the random order, so that it does not depend on the batch.
        index: the items that qualify; all of them, or those of a filter, without those that
            `SidIndex.excluding` names.
        decoding: order, function evaluations, K, the constraint or the nearest item instead, and remasking.
        horizon: k.
    """
    S, V = horizon * index.digits, index.codes
    schedule = decoding.unmask_schedule(S)
    codes = torch.full((len(users), 1, S), V, device=users.device)
    if len(schedule) == 1 and horizon == 1 and not decoding.remask and decoding.constrained:
        scores = denoiser.score_items(codes, index.catalogue_sids)
        return rank_items(scores, len(users), index.eligible, decoding.beams, len(index.catalogue_sids))
    token_log_probs = torch.zeros(codes.shape, device=users.device)
    state = BeamState(codes, token_log_probs, token_log_probs[:, :, 0])
    order = random_order(users, S, decoding.seed) if decoding.order == "random" else None
    for count in schedule:
        logp = denoiser(state.codes)  # [B, K, S, V]
        if decoding.order == CONFIDENCE:
            state = unmask_by_confidence(denoiser, logp, count, state, index, decoding)
            continue
        digits = next_digits(logp, state.codes == V, decoding.order, order)[:, :, :count]  # [B, K, count]
        state = unmask_digits(denoiser, logp, digits, state, index, decoding)
    for _ in range(decoding.remask):
        state = remask(denoiser, state, index, decoding)
    return _result(state, index, horizon, decoding.nearest)


def _result(state: BeamState, index: SidIndex, horizon: int, nearest: bool) -> Beams:
    """Look up the items of beams without masked digits, and remove repeated beams."""
    sids = state.codes.unflatten(2, (horizon, index.digits))  # [B, K, k, H]
    exists = state.scores.isfinite()  # [B, K]
    keys = index.keys(sids)
    rows, numbers = index.lookup(keys), index.numbers(keys)  # [B, K, k]
    if nearest:
        no_item = (rows < 0) & exists[:, :, None]
        rows = numbers = rows.masked_scatter(no_item, nearest_items(sids[no_item], index))
    same = (numbers[:, :, None] == numbers[:, None]).all(3)  # [B, K, K]
    repeated = same.tril(-1).any(2) & exists  # [B, K]
    users = torch.arange(len(rows), device=rows.device)[:, None, None]
    excluded = index.eligible.excludes(users, rows).any(2)  # only where the search is not constrained
    scores = state.scores.masked_fill(repeated | excluded, -torch.inf)
    items = index.eligible.items_of(rows).masked_fill(scores.isneginf()[:, :, None], -1)
    return Beams(*_sort(items, scores), repeated.sum(1))


def _sort(items: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Sort beams of items [B, K, k] by their scores [B, K], best first: removed beams come last, and of equal
    scores the lower items come first.
    """
    order = torch.arange(items.shape[1], device=items.device).expand(items.shape[:2])
    keys = [
        items[:, :, part].where(items[:, :, part] >= 0, torch.iinfo(torch.int64).max)
        for part in range(items.shape[2])
    ]
    for key, descending in (*((key, False) for key in reversed(keys)), (scores, True)):
        order = order.gather(1, key.gather(1, order).argsort(dim=1, descending=descending, stable=True))
    return items.gather(1, order[:, :, None].expand_as(items)), scores.gather(1, order)


def random_order(users: Tensor, digits: int, seed: int) -> Tensor:
    """Draw a random permutation of S digits for each user, int64 [B, S]; the same for a user in any batch."""
    draws = np.random.default_rng(seed).random((int(users.max()) + 1, digits))[users.cpu().numpy()]
    return torch.as_tensor(draws.argsort(1), device=users.device)


def next_digits(logp: Tensor, masked: Tensor, unmask: str, order: Tensor | None) -> Tensor:
    """Return all digits of each beam in the order of unmasking, with unmasked digits at the end, int64
    [B, K, S].

    The greedy order begins with the digits whose two most likely codes differ most in probability (section
    4.5).

    Args:
        logp: log-probabilities, float32 [B, K, S, V].
        masked: bool [B, K, S].
        unmask: order of unmasking; one of `ORDERS`.
        order: random permutation of the digits, int64 [B, S]; None for another order.
    """
    if unmask == "greedy":
        best = logp.topk(min(2, logp.shape[-1]), dim=-1).values.exp()
        priority = best[..., 0] - best[..., -1]
    else:
        S = masked.shape[-1]
        rank = torch.arange(S, device=masked.device) if order is None else order.argsort(1)[:, None]
        priority = (-rank.float()).expand(masked.shape)
    return priority.masked_fill(~masked, -torch.inf).sort(dim=-1, descending=True, stable=True).indices


def rank_items(scores: ItemScores, users: int, eligible: Eligible, beams: int, items: int) -> Beams:
    """Return the K best items of each user, from the scores of one block of items at a time.

    Besides the K best so far only one block is held. Logits are ranked as they are; the logarithm of the sum
    of exp(logit) over the catalogue is taken off at the end.

    Args:
        scores: of the catalogue.
        users: B.
        eligible: the items that qualify.
        beams: K.
        items: number of items of the catalogue.
    """
    block = max(CELLS // users, FEWEST)
    best = rows = total = None
    for part, first, block_scores in _blocks(scores, eligible, block, items):
        if scores.are_logits:
            total = _add_exponentials(block_scores, total)
        chosen = block_scores if part is None else block_scores[:, part]
        if not chosen.shape[1]:
            continue
        found, positions = top(eligible.mask(chosen, first), beams)
        if best is None or rows is None:
            best, rows = found, positions + first
        else:  # earlier rows have lower numbers
            best, order = top(torch.cat((best, found), dim=1), beams)
            rows = torch.cat((rows, positions + first), dim=1).gather(1, order)
        del block_scores, chosen  # the next block takes their memory
    assert best is not None and rows is not None, "there is a block"
    if total is not None:
        largest, exponentials = total
        best = best - largest[:, None] - exponentials.log()[:, None]
        order = best_first(best, rows)  # scores that differed by less than their rounding are equal now
        best, rows = best.gather(1, order), rows.gather(1, order)
    return Beams.of_items(eligible.items_of(rows), best)


def _blocks(
    scores: ItemScores, eligible: Eligible, block: int, items: int
) -> Iterator[tuple[Tensor | None, int, Tensor]]:
    """Score the items block by block: those that qualify, or the whole catalogue where the scores are logits.

    Yields:
        columns of the block's items that qualify, None for all; row of the first of them; scores of the
        block, float32 [B, items].
    """
    numbers = eligible.items
    if numbers is None or not scores.are_logits:
        for start in range(0, max(1, len(eligible)), block):
            part = slice(start, start + block)
            yield None, start, scores.of(part if numbers is None else numbers[part])
        return
    for start in range(0, items, block):
        first, last = torch.searchsorted(numbers, numbers.new_tensor([start, start + block])).tolist()
        yield numbers[first:last] - start, first, scores.of(slice(start, start + block))


def _add_exponentials(logits: Tensor, before: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
    """Add exp(logit) of a block [B, items] to that of the blocks before it.

    Returns:
        The largest logit so far, [B]; and the sum of exp(logit − largest), [B].
    """
    largest = logits.amax(1)
    if before is not None:
        largest = torch.maximum(largest, before[0])
    total = (logits - largest[:, None]).clamp_(min=LOWEST).exp_().sum(1)
    return largest, total if before is None else total + before[1] * (before[0] - largest).exp()
