"""Recommendations for all users of a split: batches of equal history length, gathered over processes.

Shapes: B users, n items of a history, K beams, k horizon, N items.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipelines.data.held_out import HeldOut
from pipelines.data.sequences import gather
from pipelines.data.splits import Split
from pipelines.decode.beam import Beams
from pipelines.decode.config import Decoding
from pipelines.decode.sid_index import SidIndex
from pipelines.decode.state import CELLS
from pipelines.evaluate.search import Search
from pipelines.models.base import DigitModel, ItemRanker, Recommender
from pipelines.processes import Processes
from pipelines.progress import Progress

TOKENS = {"cpu": 8192, "cuda": 65536}  # in one forward pass


@dataclass(frozen=True, eq=False)
class Recommendations:
    """Recommendations to the B users of a split, in the order of the split, best first.

    Attributes:
        items: int64 [B, K, k], −1 where that part of a beam is no item; such a part keeps its place.
        scores: float32 [B, K], log-probabilities, or dense scores where those rank; −inf where there is no
            beam.
        invalid: number of beams of which some part is no item, int64 [B].
        duplicates: number of beams struck out because a better one is the same, int64 [B].
    """

    items: np.ndarray
    scores: np.ndarray
    invalid: np.ndarray
    duplicates: np.ndarray


def pass_tokens(device: torch.device) -> int:
    """Return the number of tokens of one forward pass that suits a device."""
    return TOKENS.get(device.type, TOKENS["cuda"])


def batch_rows(
    split: Split,
    max_items: int,
    tokens_per_item: int,
    beams: int,
    tokens: int,
    once: bool = False,
    users: int | None = None,
    fewest: int = 1,
) -> list[np.ndarray]:
    """Group the rows of a split into batches of equal history length, so without padding; with `fewest`
    above 1, into batches of similar length.

    Args:
        split: histories and targets.
        max_items: number of items of a history that the model sees.
        tokens_per_item: P.
        beams: K.
        tokens: largest number of tokens in one forward pass.
        once: if true, a history is encoded once for all its beams.
        users: largest number of rows in a batch.
        fewest: number of rows below which a group of equal length is joined with the next shorter ones.

    Returns:
        Row numbers of each batch, those of the longest histories first.
    """
    lengths = np.minimum(split.lengths, max_items)
    order = np.argsort(-lengths, kind="stable")
    cuts, last = [], 0
    for cut in (np.flatnonzero(np.diff(lengths[order])) + 1).tolist():
        if cut - last >= fewest:
            cuts.append(cut)
            last = cut
    groups = np.split(order, cuts)
    costs = ((1 if once else beams) * int(lengths[group[0]]) + beams * split.horizon for group in groups)
    sizes = (max(1, min(tokens // (tokens_per_item * cost), users or len(split))) for cost in costs)
    return [
        group[start : start + size]
        for group, size in zip(groups, sizes, strict=True)
        for start in range(0, len(group), size)
    ]


def say_truncated(cut: int, users: int, max_items: int, progress: Progress) -> None:
    """Report the number of users whose history is longer than the model sees."""
    if cut:
        progress.say(
            f"{cut:,} of {users:,} users have longer histories than the {max_items} items the model sees."
        )


@torch.inference_mode()
def recommend(
    model: Recommender,
    split: Split,
    index: SidIndex | None,
    decoding: Decoding,
    progress: Progress,
    *,
    items: np.ndarray | None = None,
    tokens: int | None = None,
    processes: Processes | None = None,
    fewest: int = 1,
    before_batch: Callable[[], None] | None = None,
) -> Recommendations:
    """Recommend items to every user of a split.

    Args:
        model: on its device; evaluated without dropout.
        split: histories and targets.
        index: partial semantic IDs of `items`; None for a model that ranks items.
        decoding: resolved for the model (`capabilities.resolve_decoding`).
        progress: where progress is reported.
        items: numbers of the items that qualify, ascending; None for the whole catalogue.
        tokens: largest number of tokens in one forward pass. It bounds the memory and changes no result; None
            for what suits the device.
        processes: processes that share the work; each decodes its part, and all return the whole.
        fewest: see `batch_rows`. Padding changes no result, apart from rounding.
        before_batch: called before each batch, by all processes equally often, so that they may communicate;
            what it raises ends the decoding.
    """
    chunks = recommend_chunks(
        *(model, split, index, decoding, progress),
        items=items,
        tokens=tokens,
        processes=processes,
        fewest=fewest,
        before_batch=before_batch,
    )
    [(_, found)] = chunks
    return found


@torch.inference_mode()
def recommend_chunks(
    model: Recommender,
    users: Split | HeldOut,
    index: SidIndex | None,
    decoding: Decoding,
    progress: Progress,
    *,
    items: np.ndarray | None = None,
    tokens: int | None = None,
    processes: Processes | None = None,
    fewest: int = 1,
    before_batch: Callable[[], None] | None = None,
) -> Iterator[tuple[Split, Recommendations]]:
    """Yield a chunk of users and the recommendations to them, one chunk after another.

    Args:
        users: all users, in memory (one chunk) or in files.
        model, index, decoding, progress, items, tokens, processes, fewest, before_batch: see `recommend`.
    """
    processes = processes or Processes()
    device = next(model.parameters()).device
    if index:
        index.to(device)
    was_training = model.training
    if was_training:  # a model in evaluation mode keeps what it has computed from its weights
        model.eval()
    search = Search(model, index, decoding, items, users.horizon, users.warm_items)
    with progress.task("Decoding", total=len(users), unit="users") as task:
        for split in users.chunks():
            batches = _batches(model, split, decoding, tokens or pass_tokens(device), fewest)
            # Sums over processes gather: a row is filled by one process and zero in the others.
            filled = Recommendations(
                np.zeros((len(split), decoding.beams, split.horizon), np.int64),
                np.zeros((len(split), decoding.beams), np.float32),
                np.zeros(len(split), np.int64),
                np.zeros(len(split), np.int64),
            )
            for rows in _shared(batches, processes):
                if before_batch:
                    before_batch()
                if not len(rows):
                    continue
                history = torch.as_tensor(split.padded(rows, model.config.max_items), device=device).long()
                numbers = torch.as_tensor(split.users[rows], device=device).long()
                _store(search(history, numbers, _seen(split, rows, decoding, device)), rows, filled)
                task.advance(len(rows) * processes.count)
            found, scores, invalid, duplicates = (processes.total(array) for array in vars(filled).values())
            yield split, Recommendations(found - 1, scores, invalid, duplicates)
    if was_training:
        model.train()


def _shared(batches: list[np.ndarray], processes: Processes) -> list[np.ndarray]:
    """Return the batches of a process; all processes have equally many, of which the last may be empty."""
    missing = -len(batches) % processes.count
    return [*batches, *[np.empty(0, np.int64)] * missing][processes.rank :: processes.count]


def _batches(
    model: Recommender, split: Split, decoding: Decoding, tokens: int, fewest: int
) -> list[np.ndarray]:
    """Return the rows of each batch."""
    ranks = isinstance(model, ItemRanker)
    in_blocks = decoding.at_once and split.horizon == 1 and model.scores_in_blocks
    whole = ranks or (isinstance(model, DigitModel) and model.uses_item_softmax and not in_blocks)
    once = ranks or decoding.approximate or (isinstance(model, DigitModel) and model.encodes_once)
    return batch_rows(
        split,
        model.config.max_items,
        model.tokens_per_item,
        1 if decoding.retrieval in ("ranking", "dense") else decoding.beams,
        tokens,
        once,
        max(1, CELLS // model.items) if whole else None,
        fewest,
    )


def _seen(
    split: Split, rows: np.ndarray, decoding: Decoding, device: torch.device
) -> tuple[Tensor, Tensor] | None:
    """Return the pairs of a position in the batch and an item of its whole history, int64 [X] each; None
    where seen items may be recommended.
    """
    if not decoding.exclude_seen:
        return None
    histories = gather(split.items, split.offsets[rows], split.lengths[rows])
    users = torch.arange(len(rows)).repeat_interleave(torch.as_tensor(histories.lengths))
    return users.to(device), torch.as_tensor(histories.items, device=device).long()


def _store(beams: Beams, rows: np.ndarray, filled: Recommendations) -> None:
    """Write the beams of some rows, with item numbers plus 1."""
    count = beams.items.shape[1]
    filled.items[rows, :count] = beams.items.cpu().numpy() + 1
    filled.scores[rows, :count] = beams.scores.cpu().numpy()
    filled.scores[rows, count:] = -np.inf
    filled.invalid[rows] = beams.invalid.cpu().numpy()
    filled.duplicates[rows] = beams.duplicates.cpu().numpy()
