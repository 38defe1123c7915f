"""Stage "embed": the text of each item becomes a vector."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pipelines import artifacts
from pipelines.embed import batches, lsa, transformer
from pipelines.embed.config import EmbedConfig
from pipelines.errors import UserError
from pipelines.processes import command_lock, process_state
from pipelines.progress import Progress
from pipelines.workspace import Dataset

if TYPE_CHECKING:
    from accelerate import PartialState


def build_embeddings(
    dataset: Dataset, config: EmbedConfig, progress: Progress, *, force: bool = False
) -> Path:
    """Embed the text of every item and write `dataset.embeddings(config.name)`.

    Nothing is done if the embeddings are up to date.
    The table holds item (int32) and embedding (fixed_size_list of E numbers of type `config.dtype`). An item
    without text has the zero vector; so has an item with no word that lsa uses. If several processes call
    this function, each encodes its share and the first one writes; all return after the embeddings are
    written.

    Args:
        force: make the embeddings even if they are up to date.

    Returns:
        path of the embeddings.

    Raises:
        UserError: there are no items or no texts, the encoder cannot be loaded, or embeddings are not finite.
    """
    started = time.monotonic()
    path = dataset.embeddings(config.output_name)
    items = artifacts.read(
        dataset.items,
        "items",
        hint="Run `maskgr download NAME` or `maskgr import NAME …` first.",
        columns=["item", "text"],
    )
    recorded = config.identity()
    if not config.is_lsa:
        recorded["weights"] = transformer.fingerprint(config.encoder)
    reason = artifacts.stale(path, recorded, {"items": dataset.items})
    if reason is None and not force:
        progress.say(f"Embeddings {config.name} of {dataset.name} are up to date ({path}).")
        return path
    if path.exists():
        progress.say(f"Making embeddings {config.name} of {dataset.name} again: {reason or 'as requested'}.")
    texts = _Texts.of_items(dataset, items)
    if config.is_lsa:
        vectors = lsa.encode(texts.texts, config.require("dimensions"), config.seed, progress)
        values = _stored(vectors, texts.rows, config)
        _write(path, texts.spread(values), dataset, recorded, started, progress)
        return path
    state = process_state()
    parts = path.with_name(f".{config.name}.parts")
    waiting = f"Waiting for another command that makes embeddings {config.name}."
    with command_lock(parts, lambda: progress.say(waiting)):
        if not force and artifacts.stale(path, recorded, {"items": dataset.items}) is None:
            return path  # made by the other command
        key = recorded | {"items": artifacts.digest(dataset.items)}
        encoded = _encode(texts, config, state, parts, key, progress)
        if encoded is not None:
            _write(path, texts.spread(encoded), dataset, recorded, started, progress)
            shutil.rmtree(parts, ignore_errors=True)
        state.wait_for_everyone()
    return path


@dataclass(frozen=True, eq=False)
class _Texts:
    """Texts of the items that have one.

    Attributes:
        texts: n texts.
        rows: items of the texts, int64 [n].
        count: N.
    """

    texts: list[str]
    rows: np.ndarray
    count: int

    @staticmethod
    def of_items(dataset: Dataset, items: pa.Table) -> _Texts:
        """Return the texts of all items that have one.

        Raises:
            UserError: no item has text.
        """
        texts = [text.strip() for text in items["text"].to_pylist()]
        rows = np.flatnonzero([bool(text) for text in texts])  # [n]
        if not len(rows):
            raise UserError(
                f"{dataset.items}: no item has text to embed. "
                f"Give text columns with `maskgr import {dataset.name} --text-columns …`."
            )
        return _Texts([texts[row] for row in rows], rows, len(items))

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Return embeddings [N, E] of all items: `values` [n, E] of items with text, zero for the others."""
        spread = np.zeros((self.count, values.shape[1]), values.dtype)
        spread[self.rows] = values
        return spread


def _encode(
    texts: _Texts,
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
        return _stored(encoder.encode([texts.texts[i] for i in batch]), texts.rows[batch], config)

    return batches.encode(
        batches.split(lengths, batch_size), encode_batch, batches.folder(parts, key), state, progress
    )


def _stored(values: np.ndarray, rows: np.ndarray, config: EmbedConfig) -> np.ndarray:
    """Convert the output of an encoder to the storage type, and scale it to length 1 if so configured.

    Args:
        values: [B, E].
        rows: items of the values, int64 [B], for messages.

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
            f"The embedding of item {row} exceeds float16 ({np.abs(values).max():.3g}). "
            "Use --dtype float32 or --normalize."
        )
    raise UserError(
        f"{config.encoder} gives item {row} an embedding that is not finite. Nothing was written; "
        "use another --encoder."
    )


def _write(
    path: Path,
    values: np.ndarray,
    dataset: Dataset,
    recorded: dict[str, Any],
    started: float,
    progress: Progress,
) -> None:
    """Write embeddings [N, E] and report their size."""
    count, width = values.shape
    if empty := int((~values.any(axis=1)).sum()):
        progress.say(
            f"{empty:,} of {count:,} items have no text that the encoder can use: their embedding is zero."
        )
    table = pa.table(
        {"item": pa.array(range(count), pa.int32()), "embedding": artifacts.fixed_size_list(values)}
    )
    artifacts.write(
        path, "embeddings", table, config=recorded, inputs={"items": dataset.items}, started=started
    )
    progress.say(
        f"Embedded {count:,} items of {dataset.name} with {recorded['encoder']}: "
        f"{width} dimensions, {recorded['dtype']}, "
        f"{time.monotonic() - started:.1f} s ({path})."
    )
