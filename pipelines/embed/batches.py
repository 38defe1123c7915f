"""Encoding of a catalogue in batches that survive a kill and are shared among processes.

Texts are sorted by their number of tokens, longest first. A batch therefore holds little padding, and a batch
that exceeds the memory fails at once. A finished batch is a file PARTS/KEY/NUMBER.npy, where KEY is a digest
of everything that the batch depends on. The next command encodes only the batches that have no file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.durable import atomic
from pipelines.processes import from_first
from pipelines.progress import Progress

if TYPE_CHECKING:
    from accelerate import PartialState


def split(lengths: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Return the numbers of the texts in each batch, longest texts first.

    Texts of equal length stay in order.

    Args:
        lengths: number of tokens of each text, int64 [N].
        batch_size: B.
    """
    order = np.argsort(-lengths, kind="stable")  # [N]
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def folder(parts: Path, key: Mapping[str, Any]) -> Path:
    """Return the folder of the finished batches that depend on `key`.

    Args:
        parts: folder of the batches of all keys.
        key: JSON values.
    """
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return parts / digest[:16]


def encode(
    batches: Sequence[np.ndarray],
    encode_batch: Callable[[np.ndarray], np.ndarray],
    finished: Path,
    state: PartialState,
    progress: Progress,
) -> np.ndarray | None:
    """Encode all batches. This process takes every `num_processes`-th of the unfinished batches.

    Args:
        batches: numbers of the texts in each batch; together 0 … N−1, each once.
        encode_batch: function from the numbers of B texts to their embeddings [B, E], in the type to be
            stored.
        finished: folder of the finished batches.

    Returns:
        embeddings [N, E] in the first process, None in the others; all processes return after all batches are
        finished.
    """
    files = [finished / f"{number:07d}.npy" for number in range(len(batches))]
    done = from_first([_count_rows(file) == len(batch) for file, batch in zip(files, batches, strict=True)])
    if any(done):
        progress.say(f"{sum(done)} of {len(done)} batches were encoded by an earlier run and are kept.")
    state.wait_for_everyone()  # no process writes before all have looked
    unfinished = [number for number in range(len(batches)) if not done[number]]
    share = unfinished[state.process_index :: state.num_processes]
    with progress.task("Encoding", total=len(share), unit="batches") as task:
        for number in share:
            values = encode_batch(batches[number])
            with atomic(files[number]) as temporary, open(temporary, "wb") as file:
                np.save(file, values)
            task.advance()
    state.wait_for_everyone()
    if not state.is_main_process:
        return None
    inverse = np.argsort(np.concatenate(batches))  # [N]
    return np.concatenate([np.load(file) for file in files])[inverse]


def _count_rows(file: Path) -> int | None:
    """Return the number of rows in a finished batch; None if the file is missing or damaged."""
    try:
        return len(np.load(file, mmap_mode="r"))
    except Exception:  # numpy raises many kinds of errors for a damaged file
        return None
