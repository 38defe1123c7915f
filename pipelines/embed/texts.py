"""Texts of the items, encoded by a Hugging Face encoder; conversion of vectors to the type that is stored."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pipelines.embed import batches, transformer
from pipelines.embed.config import EmbedConfig
from pipelines.errors import UserError
from pipelines.progress import Progress
from pipelines.workspace import Dataset

if TYPE_CHECKING:
    from accelerate import PartialState

BLOCK = 1 << 16  # vectors that are converted at a time


@dataclass(frozen=True, eq=False)
class Texts:
    """Texts of the items that have one.

    Attributes:
        texts: n texts.
        rows: items of the texts, int64 [n].
    """

    texts: list[str]
    rows: np.ndarray

    @staticmethod
    def of_items(dataset: Dataset, items: pa.Table) -> Texts:
        """Return the texts of all items that have one.

        Raises:
            UserError: no item has text.
        """
        texts = [text.strip() for text in items["text"].to_pylist()]
        rows = np.flatnonzero([bool(text) for text in texts])  # [n]
        if not len(rows):
            raise UserError(
                f"{dataset.items}: no item has text to embed. "
                f"Give text columns with `maskgr import {dataset.name} --text-columns …`, or use "
                "--encoder interactions."
            )
        return Texts([texts[row] for row in rows], rows)


def encode_texts(
    texts: Texts,
    config: EmbedConfig,
    state: PartialState,
    parts: Path,
    key: dict[str, Any],
    progress: Progress,
) -> np.ndarray | None:
    """Encode texts with a transformer.

    Args:
        parts: folder of finished batches.
        key: settings and inputs that the batches depend on, as JSON values.

    Returns:
        embeddings [n, E] in the first process, None in the others.
    """
    encoder = transformer.load(config, state, progress)
    lengths = encoder.lengths(texts.texts)  # [n]
    if cut := int((lengths > encoder.max_length).sum()):
        progress.say(
            f"{cut:,} of {len(lengths):,} texts are longer than {encoder.max_length} tokens and are "
            "truncated to that."
        )
    batch_size = config.require("batch_size")
    key = key | {
        "batch_size": batch_size,
        "precision": str(encoder.model.dtype),
        "max_length": encoder.max_length,
    }

    def encode_batch(batch: np.ndarray) -> np.ndarray:
        return stored(encoder.encode([texts.texts[i] for i in batch]), texts.rows[batch], config)

    return batches.encode(
        batches.split(lengths, batch_size), encode_batch, batches.folder(parts, key), state, progress
    )


def stored(values: np.ndarray, rows: np.ndarray, config: EmbedConfig) -> np.ndarray:
    """Convert the output of an encoder to the storage type, and scale it to length 1 if so configured.

    Args:
        values: [N, E].
        rows: items of the values, int64 [N], for messages.

    Raises:
        UserError: a number is not finite, or is too large for float16.
    """
    result = np.empty(values.shape, config.dtype)
    for start in range(0, len(values), BLOCK):
        part = slice(start, start + BLOCK)
        result[part] = _stored(values[part], rows[part], config)
    return result


def _stored(values: np.ndarray, rows: np.ndarray, config: EmbedConfig) -> np.ndarray:
    """Convert a block of values [B, E], see `stored`."""
    if config.normalize:
        values = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    with np.errstate(over="ignore"):
        stored = values.astype(config.dtype)
    if np.isfinite(stored).all():
        return stored
    row = rows[np.argmin(np.isfinite(stored).all(axis=1))]
    if np.isfinite(values).all():
        raise UserError(
            f"The embedding of item {row} exceeds float16 ({np.abs(values).max():.3g}). "
            "Use --dtype float32 or --normalize."
        )
    raise UserError(
        f"{config.origin} gives item {row} an embedding that is not finite. Nothing was written; "
        "use another --encoder."
    )
