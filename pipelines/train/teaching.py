"""What teachers recommend at each place of training sequences: their best items, with probabilities.

Shapes: P places (items of the sequences, one after another), K items of a place, R rows of a pass, n items of
a history, N items of the catalogue."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from pipelines.data.eligible import Eligible
from pipelines.data.sequences import Sequences, gather
from pipelines.decode.beam import rank_items
from pipelines.decode.state import CELLS
from pipelines.evaluate.recommend import pass_tokens
from pipelines.models.base import Recommender
from pipelines.models.committee import single_models
from pipelines.models.denoiser import ItemScores
from pipelines.models.distribution import distribution_after, distribution_within, geometric_mean

ROWS = 1024  # histories of a pass, at most
Weighted = tuple[Recommender, float]  # a teacher and its weight


@torch.inference_mode()
def best_items(
    teachers: Sequence[Recommender],
    sequences: Sequences,
    count: int,
    known: np.ndarray | None = None,
    advance: Callable[[int], None] = lambda places: None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the best items of the geometric mean of teachers' distributions at each place of sequences.

    A place is an item of a sequence; its distribution is that of this item, given the items before it, of
    which each teacher sees as many as its own window holds. Places up to the smallest window of the teachers
    that can are computed with one pass over the sequence, the others with a pass for each history.

    Args:
        teachers: in evaluation mode, on their device, over the same N items. A committee has the weight of
            one teacher, which its members share.
        sequences: the sequences.
        count: K.
        known: items that count, int64, ascending; None for all.
        advance: called with the numbers of places that are done.

    Returns:
        Items, int32 [P, K], best first; their probabilities among all items, float16 [P, K]. The first place
        of a sequence has no history: its probabilities are 0, as are those of missing items.
    """
    device = next(teachers[0].parameters()).device
    eligible = Eligible.of(teachers[0].items, known).to(device)
    items = np.zeros((len(sequences.items), count), np.int32)
    probabilities = np.zeros((len(sequences.items), count), np.float16)
    for places, scores in _passes(single_models(teachers), sequences, device):
        found = rank_items(scores, len(places), eligible, min(count, len(eligible)), teachers[0].items)
        best = found.items[:, :, 0].cpu().numpy()
        items[places, : best.shape[1]] = np.maximum(best, 0)
        probabilities[places, : best.shape[1]] = found.scores.exp().cpu().numpy()
        advance(len(places))
    return items, probabilities


def _passes(
    weighted: Sequence[Weighted], sequences: Sequences, device: torch.device
) -> Iterator[tuple[np.ndarray, ItemScores]]:
    """Yield the places of one pass after another, int64 [R], with their distributions."""
    teachers = [teacher for teacher, _ in weighted]
    windows = [teacher.config.max_items for teacher in teachers if takes_prefixes(teacher)]
    window = min(windows, default=0)  # histories up to this length are those of one pass
    size = ROWS
    if not all(teacher.scores_in_blocks for teacher in teachers):  # they score all items at once
        size = max(1, min(ROWS, CELLS // teachers[0].items))
    heads = np.minimum(sequences.lengths, window + 1)  # items of a sequence in one pass
    rows = np.argsort(-heads, kind="stable")
    rows = rows[heads[rows] > 1]
    for part in _parts(rows, heads[rows] - 1, size):
        taken = gather(sequences.items, sequences.offsets[part], heads[part])
        padded = torch.as_tensor(taken.padded(np.arange(len(part)), window + 1)).long()
        histories = gather(np.arange(len(sequences.items)), sequences.offsets[part] + 1, heads[part] - 1)
        yield histories.items, _mean(weighted, sequences, histories.items, device, padded)
    before = np.arange(len(sequences.items)) - np.repeat(sequences.offsets[:-1], sequences.lengths)
    places = np.argsort(-before, kind="stable")  # histories of similar length together
    places = places[before[places] > window]
    for part in _parts(places, np.ones(len(places), np.int64), size):
        yield part, _mean(weighted, sequences, part, device)


def _parts(rows: np.ndarray, sizes: np.ndarray, most: int) -> list[np.ndarray]:
    """Cut rows into parts whose sizes sum to about `most`."""
    ends = np.cumsum(sizes)
    return np.split(rows, np.flatnonzero(np.diff((ends - sizes) // most)) + 1) if len(rows) else []


def takes_prefixes(model: Recommender) -> bool:
    """Return True if one pass over a sequence gives a model's distributions at all its places."""
    return distribution_within(model, torch.zeros((1, 2), dtype=torch.int64)) is not None


def _mean(
    weighted: Sequence[Weighted],
    sequences: Sequences,
    places: np.ndarray,
    device: torch.device,
    padded: torch.Tensor | None = None,
) -> ItemScores:
    """Return the geometric mean of the teachers' distributions at some places.

    Args:
        weighted: teachers with their weights.
        sequences, device: see `best_items`.
        places: int64 [R].
        padded: sequences whose places from the second on these are, int64 [B, n], on the host; None if no
            teacher takes them in one pass.
    """
    members = []
    for teacher, _ in weighted:
        scores = None if padded is None else distribution_within(teacher, padded)
        members.append(scores or _after(teacher, sequences, places, device))
    return geometric_mean(members, [weight for _, weight in weighted])


def _after(
    teacher: Recommender, sequences: Sequences, places: np.ndarray, device: torch.device
) -> ItemScores:
    """Return a teacher's distribution at some places, int64 [R], with a pass for each history."""
    rows = np.searchsorted(sequences.offsets, places, side="right") - 1
    lengths = np.minimum(places - sequences.offsets[rows], teacher.config.max_items)
    histories = gather(sequences.items, places - lengths, lengths)
    size = max(1, pass_tokens(device) // (teacher.tokens_per_item * (int(lengths.max()) + 1)))
    parts = []
    for part in np.split(np.arange(len(places)), range(size, len(places), size)):
        history = torch.as_tensor(histories.padded(part, teacher.config.max_items), device=device).long()
        same = torch.zeros(len(part), dtype=torch.int64, device=device)  # one noise for all places
        parts.append(distribution_after(teacher, history, same))
    return ItemScores(lambda items: torch.cat([part.of(items) for part in parts]), are_logits=True)
