"""Encoding a catalogue in batches that survive a kill, shared among the processes there are.

Texts are sorted by their number of tokens, longest first, so that a batch holds little padding and a batch
that is too large for the memory fails at once. A finished batch is a file PARTS/KEY/NUMBER.npy; KEY is a digest
of everything the batch depends on. Whoever comes next encodes only the batches that have no file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines import artifacts
from pipelines.progress import Progress

if TYPE_CHECKING:
    from accelerate import PartialState


def split(lengths: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Numbers of the texts in each batch, longest texts first; ties stay in order."""
    order = np.argsort(-lengths, kind="stable")
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def folder(parts: Path, key: Mapping[str, Any]) -> Path:
    """Where the finished batches lie that depend on `key` (JSON values)."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return parts / digest[:16]


def encode(
    batches: Sequence[np.ndarray],
    encode_batch: Callable[[np.ndarray], np.ndarray],
    kept: Path,
    state: PartialState,
    progress: Progress,
) -> np.ndarray | None:
    """Encode all batches; this process takes every `num_processes`-th of those that are left.

    Args:
        batches: numbers of the texts in each batch; together 0 … N−1, each once.
        encode_batch: the numbers of B texts → [B, D] in the type to be stored.
        kept: the folder of finished batches.

    Returns:
        [N, D] in the first process, None in the others, after all are done.
    """
    files = [kept / f"{number:07d}.npy" for number in range(len(batches))]
    done = [_rows(file) == len(batch) for file, batch in zip(files, batches, strict=True)]
    if any(done):
        progress.say(f"{sum(done)} of {len(done)} batches were encoded by an earlier run and are kept.")
    state.wait_for_everyone()  # all have looked before anyone writes
    mine = [number for number in range(len(batches)) if not done[number]][
        state.process_index :: state.num_processes
    ]
    with progress.task("Encoding", total=len(mine), unit="batches") as task:
        for number in mine:
            values = encode_batch(batches[number])
            with artifacts.atomic(files[number]) as temporary, open(temporary, "wb") as file:
                np.save(file, values)
            task.advance()
    state.wait_for_everyone()
    if not state.is_main_process:
        return None
    inverse = np.argsort(np.concatenate(batches))
    return np.concatenate([np.load(file) for file in files])[inverse]


def _rows(file: Path) -> int | None:
    """Rows in a finished batch; None where there is none, or it is not readable."""
    try:
        return len(np.load(file, mmap_mode="r"))
    except Exception:  # whatever numpy makes of a spoilt file
        return None
