"""Recommendations for all users of a split: length-bucketed batches through the decoder, gathered over processes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipelines.data.splits import Split
from pipelines.decode.beam import CELLS, Beams, beam_search
from pipelines.decode.config import Decoding
from pipelines.decode.dense import dense_search, reranked
from pipelines.decode.guidance import guided
from pipelines.decode.index import PartialIndex
from pipelines.decode.top import top
from pipelines.models.base import DigitModel, ItemRanker, Recommender
from pipelines.models.sid.item_softmax import Denoiser
from pipelines.processes import Processes
from pipelines.progress import Progress

TOKENS = {"cpu": 8192, "cuda": 65536}  # in one forward pass


@dataclass(frozen=True, eq=False)
class Recommendations:
    """What a model recommends to the B users of a split, in the split's order, best first.

    Attributes:
        items: int64 [B, K, k], −1 where that part of a beam is no item; it keeps its place.
        scores: float32 [B, K], log-probabilities, or dense scores where those rank; −inf where there is no beam.
        invalid: int64 [B], beams of which some part is no item.
        duplicates: int64 [B], beams struck out because a better one is the same.
    """

    items: np.ndarray
    scores: np.ndarray
    invalid: np.ndarray
    duplicates: np.ndarray


def pass_tokens(device: torch.device) -> int:
    """Tokens of one forward pass that suit a device."""
    return TOKENS.get(device.type, TOKENS["cuda"])


def batch_rows(
    split: Split,
    max_items: int,
    tokens_per_item: int,
    beams: int,
    tokens: int,
    once: bool = False,
    users: int | None = None,
) -> list[np.ndarray]:
    """Rows of the split in batches of equal history length, so without padding, each at most `tokens` tokens in a forward pass.

    Args:
        once: a history is encoded once for all its beams.
        users: most rows in a batch.
    """
    lengths = np.minimum(split.lengths, max_items)
    order = np.argsort(-lengths, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1)
    costs = (
        (1 if once else beams) * int(lengths[group[0]]) + beams * split.horizon for group in groups
    )  # items a user
    sizes = (max(1, min(tokens // (tokens_per_item * cost), users or len(split))) for cost in costs)
    return [
        group[start : start + size]
        for group, size in zip(groups, sizes, strict=True)
        for start in range(0, len(group), size)
    ]


def say_truncated(split: Split, max_items: int, progress: Progress) -> None:
    """Say how many users have a longer history than the model sees."""
    if cut := split.truncated(max_items):
        progress.say(
            f"{cut:,} of {len(split):,} users have longer histories than the {max_items} items the model sees."
        )


@torch.inference_mode()
def recommend(
    model: Recommender,
    split: Split,
    index: PartialIndex | None,
    decoding: Decoding,
    progress: Progress,
    *,
    tokens: int | None = None,
    processes: Processes | None = None,
) -> Recommendations:
    """Recommend to every user of a split.

    Args:
        model: on its device; evaluated without dropout.
        index: of the catalogue; None for a model that ranks items.
        decoding: one that suits the model (`abilities.resolve_decoding`).
        tokens: most tokens in one forward pass; bounds the memory, changes no result. None takes what suits the device.
        processes: where several share the work, each decodes its part and all get the whole.
    """
    processes = processes or Processes()
    device = next(model.parameters()).device
    if index:
        index.to(device)
    was_training = model.training
    model.eval()
    B, K, k = len(split), decoding.beams, split.horizon
    # Sums over processes gather: a row is filled by one process and zero in the others.
    items, scores = np.zeros((B, K, k), np.int64), np.zeros((B, K), np.float32)
    counts = np.zeros((2, B), np.int64)
    tokens = tokens or pass_tokens(device)
    ranks = isinstance(model, ItemRanker)
    once = ranks or model.encodes_once or decoding.approximate
    most = (
        max(1, CELLS // model.items) if ranks or model.uses_item_softmax else None
    )  # all items are looked at for each user
    beams = 1 if decoding.retrieval in ("ranking", "dense") else K
    batches = batch_rows(split, model.config.max_items, model.tokens_per_item, beams, tokens, once, most)
    batches, cold = batches[processes.rank :: processes.count], _cold(model, split, decoding, device)
    with progress.task("Decoding", total=B, unit="users") as task:
        for rows in batches:
            history = torch.as_tensor(split.padded(rows, model.config.max_items), device=device).long()
            users = torch.as_tensor(split.users[rows], device=device).long()
            _store(_search(model, history, users, index, decoding, k, cold), rows, items, scores, counts)
            task.advance(len(rows) * processes.count)
    model.train(was_training)
    items, scores, counts = (processes.total(array) for array in (items, scores, counts))
    items -= 1
    if decoding.exclude_seen:
        items, scores = _unseen(split, items, scores)
    return Recommendations(items, scores, counts[0], counts[1])


def _cold(model: Recommender, split: Split, decoding: Decoding, device: torch.device) -> Tensor | None:
    """Items that nobody took in training, int64 [C], where they are candidates beside the beams; None where they are not, or none is."""
    if not (model.ranks_cold_items and decoding.retrieval == "unified") or split.warm_items is None:
        return None
    cold = np.setdiff1d(np.arange(model.items), split.warm_items)
    return torch.as_tensor(cold, device=device) if len(cold) else None


def _search(
    model: Recommender,
    history: Tensor,
    users: Tensor,
    index: PartialIndex | None,
    decoding: Decoding,
    horizon: int,
    cold: Tensor | None,
) -> Beams:
    """What is found for the users [B] with the histories [B, n], by the decoding's way of retrieval."""
    if isinstance(model, ItemRanker):
        scores = model.scores(
            history, users, **{name: getattr(decoding, name) for name in model.decoding_options}
        )  # [B, N]
        best, items = top(scores, decoding.beams)
        return Beams.of_items(items, best)
    who = {"users": users} if model.uses_user_ids else {}
    if decoding.retrieval == "dense":
        return dense_search(model.dense_query(history, **who), model.dense.text, decoding.beams)
    beams = beam_search(_expectation(model, history, decoding, who), users, index, decoding, horizon)
    if decoding.retrieval == "unified":
        return reranked(beams, model.dense_query(history, **who), model.dense.text, cold)
    return beams


def _expectation(model: DigitModel, history: Tensor, decoding: Decoding, who: dict[str, Tensor]) -> Denoiser:
    """What the beam search asks of the model, given histories [B, n] and whose they are, where it wants to know."""
    more = {**who, "approximate": True} if decoding.approximate else who
    given = model.denoiser(history, **more)
    if not decoding.guidance:
        return given
    return guided(given, model.denoiser(history[:, :0], **more), decoding.guidance)


def _unseen(split: Split, items: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Items [B, K, k] and scores [B, K] without the beams that hold an item of the user's history; the rest moves up."""
    seen = split.contains(items.reshape(len(items), -1)).reshape(items.shape).any(axis=2)  # [B, K]
    order = np.argsort(seen, axis=1, kind="stable")
    items, scores = np.where(seen[..., None], -1, items), np.where(seen, -np.inf, scores)
    return np.take_along_axis(items, order[..., None], axis=1), np.take_along_axis(
        scores, order, axis=1
    ).astype(np.float32)


def _store(beams: Beams, rows: np.ndarray, items: np.ndarray, scores: np.ndarray, counts: np.ndarray) -> None:
    found = beams.items.shape[1]
    items[rows, :found] = beams.items.cpu().numpy() + 1
    scores[rows, :found], scores[rows, found:] = beams.scores.cpu().numpy(), -np.inf
    counts[0, rows], counts[1, rows] = beams.invalid.cpu().numpy(), beams.duplicates.cpu().numpy()
