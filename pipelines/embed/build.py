"""Make a data set's embeddings, or find them up to date."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pipelines import artifacts
from pipelines.embed import batches, lsa, transformer
from pipelines.embed.config import EmbedConfig
from pipelines.errors import UserError
from pipelines.processes import process_state, turn
from pipelines.progress import Progress
from pipelines.workspace import Dataset

if TYPE_CHECKING:
    from accelerate import PartialState


def build_embeddings(
    dataset: Dataset, config: EmbedConfig, progress: Progress, *, force: bool = False
) -> Path:
    """Embed the text of every item and write `dataset.embeddings(config.name)`; skip it where it is up to date.

    The table holds item (int32) and embedding (fixed_size_list of D numbers of type `config.dtype`). An item
    without text, or none of whose words lsa uses, has the zero vector. With several processes (each calls this),
    each encodes its share and the first writes; all return once it is written.

    Raises:
        UserError: no items, no text at all, an encoder that cannot be loaded, embeddings that are not finite.
    """
    started = time.monotonic()
    path = dataset.embeddings(config.name)
    items = artifacts.read(
        dataset.items,
        "items",
        hint="Run `maskgr download NAME` or `maskgr import NAME …` first.",
        columns=["item", "text"],
    )
    recipe = config.identity()
    if not config.is_lsa:
        recipe["weights"] = transformer.fingerprint(config.encoder)
    reason = artifacts.stale(path, recipe, {"items": dataset.items})
    if reason is None and not force:
        progress.say(f"Embeddings {config.name} of {dataset.name} are up to date ({path}).")
        return path
    if path.exists():
        progress.say(f"Making embeddings {config.name} of {dataset.name} again: {reason or 'as asked'}.")

    texts = [text.strip() for text in items["text"].to_pylist()]
    rows = np.flatnonzero([bool(text) for text in texts])  # items that have text
    if not len(rows):
        raise UserError(
            f"{dataset.items}: no item has text to embed. Give text columns with `maskgr import {dataset.name} --text-columns …`."
        )
    texts = [texts[row] for row in rows]
    if config.is_lsa:
        found = _finish(lsa.encode(texts, config.dimensions, config.seed, progress), rows, config)
        _write(path, _spread(found, rows, len(items)), dataset, recipe, started, progress)
        return path
    state = process_state()
    parts = path.with_name(f".{config.name}.parts")
    with turn(
        parts, lambda: progress.say(f"Waiting for another command that makes embeddings {config.name}.")
    ):
        if (
            not force and artifacts.stale(path, recipe, {"items": dataset.items}) is None
        ):  # the other command made them
            return path
        found = _encode(
            texts, rows, config, state, parts, recipe | {"items": artifacts.digest(dataset.items)}, progress
        )
        if found is not None:
            _write(path, _spread(found, rows, len(items)), dataset, recipe, started, progress)
            shutil.rmtree(parts, ignore_errors=True)
        state.wait_for_everyone()
    return path


def _encode(
    texts: list[str],
    rows: np.ndarray,
    config: EmbedConfig,
    state: PartialState,
    parts: Path,
    key: dict[str, Any],
    progress: Progress,
) -> np.ndarray | None:
    """Embeddings [N, D] of the texts of items `rows` in the first process, None in the others."""
    encoder = transformer.load(config, state, progress)
    lengths = encoder.lengths(texts)
    if cut := int((lengths > encoder.max_length).sum()):
        progress.say(
            f"{cut:,} of {len(texts):,} texts are longer than {encoder.max_length} tokens and are truncated to that."
        )
    key = key | {
        "batch_size": config.batch_size,
        "precision": str(encoder.model.dtype),
        "max_length": encoder.max_length,
    }
    return batches.encode(
        batches.split(lengths, config.batch_size),
        lambda batch: _finish(encoder.encode([texts[i] for i in batch]), rows[batch], config),
        batches.folder(parts, key),
        state,
        progress,
    )


def _finish(values: np.ndarray, rows: np.ndarray, config: EmbedConfig) -> np.ndarray:
    """Encoder output [B, D] of items `rows` as it is stored: scaled to length 1 if asked, in the storage type.

    Raises:
        UserError: a number is not finite, or is too large for float16.
    """
    if config.normalize:
        values = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    with np.errstate(over="ignore"):
        stored = values.astype(config.dtype)
    if np.isfinite(stored).all():
        return stored
    row = rows[np.argmin(np.isfinite(stored).all(axis=1))]
    if np.isfinite(values).all():
        raise UserError(
            f"The embedding of item {row} exceeds float16 ({np.abs(values).max():.3g}). Use --dtype float32 or --normalize."
        )
    raise UserError(
        f"{config.encoder} gives item {row} an embedding that is not finite. Nothing was written; use another --encoder."
    )


def _spread(found: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    """Embeddings [N, D] of all `count` items: `found` for items `rows`, zero for the others."""
    values = np.zeros((count, found.shape[1]), found.dtype)
    values[rows] = found
    return values


def _write(
    path: Path,
    values: np.ndarray,
    dataset: Dataset,
    recipe: dict[str, Any],
    started: float,
    progress: Progress,
) -> None:
    """Write the embeddings [N, D] and say what they are."""
    count, width = values.shape
    if empty := int((~values.any(axis=1)).sum()):
        progress.say(
            f"{empty:,} of {count:,} items have no text that the encoder can use: their embedding is zero."
        )
    table = pa.table(
        {"item": pa.array(range(count), pa.int32()), "embedding": artifacts.fixed_size_list(values)}
    )
    artifacts.write(
        path, "embeddings", table, config=recipe, inputs={"items": dataset.items}, started=started
    )
    progress.say(
        f"Embedded {count:,} items of {dataset.name} with {recipe['encoder']}: {width} dimensions, {recipe['dtype']}, "
        f"{time.monotonic() - started:.1f} s ({path})."
    )
