"""Stage "embed": each item becomes a vector, from its text, from its interactions or from a file."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines import artifacts
from pipelines.data import items as data_items
from pipelines.durable import together
from pipelines.embed import interactions, lsa, transformer
from pipelines.embed.config import FILE, INTERACTIONS, LSA, TRANSFORMER, EmbedConfig
from pipelines.embed.place import place_missing, training_co_occurrences
from pipelines.embed.texts import Texts, encode_texts, stored
from pipelines.embed.vectors import read_vectors
from pipelines.errors import UserError
from pipelines.processes import command_lock, from_first, process_state
from pipelines.progress import Progress
from pipelines.workspace import Dataset

ROWS = 1 << 20  # items whose embeddings become a table at a time


def build_embeddings(
    dataset: Dataset, config: EmbedConfig, progress: Progress, *, force: bool = False
) -> Path:
    """Embed every item and write `dataset.embeddings(config.name)`.

    Nothing is done if the embeddings are up to date.
    The table holds item (int32) and embedding (fixed_size_list of E numbers of type `config.dtype`). An item
    without a vector of its own, because it has no text or no term that lsa uses, takes the mean vector of the
    items that it co-occurs with in training. A fitted encoder is written together with the embeddings to
    `dataset.encoder(config.name)`. If several processes call this function, each encodes its share and the
    first one writes; all return after the embeddings are written.

    Args:
        force: make the embeddings even if they are up to date.

    Returns:
        path of the embeddings.

    Raises:
        UserError: there are no items or no texts, the encoder cannot be loaded, a file cannot be used, or
            embeddings are not finite.
    """
    work = _Work(dataset, config, progress, time.monotonic())
    items = data_items.read_items(dataset)
    recorded = config.identity(len(items))
    if config.kind == TRANSFORMER:
        recorded["weights"] = transformer.fingerprint(config.origin)
    reason = work.stale(recorded)
    if config.kind == TRANSFORMER:
        reason = from_first(reason)
    if reason is None and not force:
        progress.say(f"Embeddings {config.name} of {dataset.name} are up to date ({work.path}).")
        return work.path
    if work.path.exists():
        progress.say(f"Making embeddings {config.name} of {dataset.name} again: {reason or 'as requested'}.")
    if config.kind == TRANSFORMER:
        _encode_with_transformer(work, items, recorded, force)
        return work.path
    encoder = None
    if config.kind == LSA:
        texts = Texts.of_items(dataset, items)
        width, largest = config.require("dimensions"), config.require("sample")
        encoder, vectors = lsa.embed(texts.texts, width, config.seed, largest, progress)
        rows = texts.rows
    elif config.kind == INTERACTIONS:
        counts = training_co_occurrences(dataset, len(items))
        vectors = interactions.encode(counts, config.require("dimensions"), config.seed)
        rows = np.arange(len(items))
    else:
        vectors, rows = read_vectors(config, items, progress)
    work.write(stored(vectors, rows, config), rows, items, recorded, encoder)
    return work.path


def choose_encoder(dataset: Dataset, progress: Progress) -> str:
    """Return the encoder to use if none is named: lsa, or interactions if no item has text, which is said.

    Raises:
        UserError: the items are missing or unreadable.
    """
    texts = data_items.read_items(dataset)["text"]
    if any(text.as_py().strip() for text in texts):  # most often the first one
        return LSA
    progress.say(
        f"No item of {dataset.name} has text: embeddings come from interactions (--encoder interactions)."
    )
    return INTERACTIONS


@dataclass(frozen=True)
class _Work:
    """Embeddings that are being made.

    Attributes:
        started: `time.monotonic()` at the start.
    """

    dataset: Dataset
    config: EmbedConfig
    progress: Progress
    started: float

    @property
    def path(self) -> Path:
        return self.dataset.embeddings(self.config.output_name)

    def inputs(self, names: Mapping[str, Any]) -> dict[str, Path]:
        """Return the files that the embeddings depend on, by name.

        Args:
            names: recorded inputs; the sequences are one if an item took its place by co-occurrence.
        """
        files = {"items": self.dataset.items}
        if self.config.kind == LSA:
            files["encoder"] = self.dataset.encoder(self.config.output_name)
        if self.config.kind == INTERACTIONS or "sequences" in names:
            files["sequences"] = self.dataset.sequences
        if self.config.kind == FILE:
            files["vectors"] = Path(self.config.source or "").expanduser()
        if self.config.ids is not None:
            files["ids"] = Path(self.config.ids).expanduser()
        return files

    def stale(self, recorded: Mapping[str, Any]) -> str | None:
        """Return the reason why the embeddings must be made, or None.

        Args:
            recorded: configuration that they should have.
        """
        provenance = artifacts.provenance(self.path)
        kept = data_items.kept_identity(provenance["config"] if provenance else None)
        inputs = self.inputs(provenance["inputs"] if provenance else {})
        return artifacts.stale(self.path, {**recorded, **kept}, inputs)

    def write(
        self,
        values: np.ndarray,
        rows: np.ndarray,
        items: pa.Table,
        recorded: dict[str, Any],
        encoder: lsa.Encoder | None = None,
    ) -> None:
        """Write the embeddings, and the encoder beside them, and report their size.

        Args:
            values: embeddings of some items, [n, E]; the others take their place by co-occurrence.
            rows: items of the values, int64 [n].
        """
        dataset, config, path = self.dataset, self.config, self.path
        spread = values  # [N, E]
        if len(rows) < len(items) or (np.diff(rows) != 1).any():
            spread = np.zeros((len(items), values.shape[1]), values.dtype)
            spread[rows] = values
        usable = np.any(spread, axis=1)  # [N]
        if not usable.any():
            raise UserError(f"Every vector that {config.origin} gives is zero. Use another --encoder.")
        placed = np.flatnonzero(~usable)  # [r]
        spread[placed] = stored(place_missing(dataset, spread, usable, placed, self.progress), placed, config)
        settings = {**recorded, data_items.KEY: data_items.identity(items)}
        inputs = self.inputs({"sequences": True} if len(placed) else {})
        with together(path.parent) as new:
            if encoder is not None:
                inputs["encoder"] = artifacts.write(
                    new / dataset.encoder(config.output_name).name,
                    "encoder",
                    encoder.table(),
                    config={**settings, "terms": encoder.kind},
                    started=self.started,
                )
            artifacts.write(
                new / path.name,
                "embeddings",
                lambda: embeddings_tables(spread),
                config=settings,
                inputs=inputs,
                started=self.started,
            )
        self.progress.say(
            f"Embedded {len(items):,} items of {dataset.name} with {config.origin}: "
            f"{spread.shape[1]} dimensions, {config.dtype}, "
            f"{time.monotonic() - self.started:.1f} s ({path})."
        )


def embeddings_tables(values: np.ndarray) -> Iterator[pa.Table]:
    """Yield embeddings [N, E] as parts of an artifact of kind "embeddings"."""
    for start in range(0, len(values), ROWS):
        part = values[start : start + ROWS]  # [n, E]
        numbers = pa.array(np.arange(start, start + len(part), dtype=np.int32))
        yield pa.table({"item": numbers, "embedding": artifacts.fixed_size_list(part)})


def _encode_with_transformer(work: _Work, items: pa.Table, recorded: dict[str, Any], force: bool) -> None:
    """Encode all texts with a Hugging Face encoder, in as many processes as were started, and write."""
    config, path, progress = work.config, work.path, work.progress
    texts = Texts.of_items(work.dataset, items)
    state = process_state()
    parts = path.with_name(f".{config.name}.parts")
    waiting = f"Waiting for another command that makes embeddings {config.name}."
    with command_lock(parts, lambda: progress.say(waiting)):
        if not force and from_first(work.stale(recorded)) is None:
            return  # made by the other command
        key = recorded | {"items": artifacts.digest(work.dataset.items)}
        encoded = encode_texts(texts, config, state, parts, key, progress)
        if encoded is not None:
            work.write(encoded, texts.rows, items, recorded)
            shutil.rmtree(parts, ignore_errors=True)
        state.wait_for_everyone()
