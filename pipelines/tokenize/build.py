"""The stage: embeddings → semantic IDs and their quality report."""

from __future__ import annotations

import dataclasses
import time
from importlib import import_module
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipelines import artifacts
from pipelines.durable import together
from pipelines.errors import UserError
from pipelines.progress import Progress
from pipelines.tokenize.config import CODES, TokenizeConfig, default_name
from pipelines.tokenize.quality import quality_table
from pipelines.tokenize.quantization import group_equal
from pipelines.workspace import Dataset

EMBED_AGAIN = "Run `maskgr embed` again."


def build_sids(
    dataset: Dataset,
    config: TokenizeConfig,
    progress: Progress,
    *,
    embedding: str | None = None,
    name: str | None = None,
    force: bool = False,
) -> Path:
    """Give every item of a data set a semantic ID of H = m + 1 digits, unlike that of any other item.

    The first m digits come from the method; the last counts items with equal first digits, in item order (TIGER,
    arXiv 2305.05065, section 3.1), unless the method gives it. Nothing is done where the SIDs are up to date.

    Args:
        embedding: name of the embeddings; the newest where None.
        name: name of the SIDs; `default_name` where None.
        force: make them even where they are up to date.

    Returns:
        the path of the SIDs; their report lies at `dataset.quality(NAME)`.

    Raises:
        UserError: no embeddings, embeddings of other items or with non-finite values, what the method refuses, or more
            items with equal digits than there are codes.
    """
    started = time.monotonic()
    source = dataset.require_embeddings(embedding)
    name = name or default_name(source.stem, config)
    if name.endswith(".quality"):
        raise UserError(
            f"SIDs cannot be named {name!r}: names that end in .quality are taken by the reports. Choose another --name."
        )
    path, report = dataset.sids(name), dataset.quality(name)
    recorded = dataclasses.asdict(config)
    inputs = {"embeddings": source, "items": dataset.items}
    items, vectors = _load(dataset, source)

    reason = artifacts.stale(path, recorded, inputs) or artifacts.stale(
        report, recorded, {**inputs, "sids": path}
    )
    if reason is None and not force:
        progress.say(f"SIDs {name} are up to date ({path}).")
        return path
    again = f" again ({reason or 'as asked'})" if path.exists() else ""
    progress.say(f"Making SIDs {name} of {dataset.name} from its embeddings {source.stem}{again}.")

    if config.normalize:
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    quantization = import_module(f"pipelines.tokenize.{config.method}").quantize(vectors, config, progress)
    group, rank = group_equal(quantization.codes)
    last = rank if quantization.last is None else quantization.last
    if last.max() >= config.codebook:
        raise UserError(_too_many(dataset, items, vectors, group, config))
    quality = quality_table(vectors, quantization.codes, group, quantization.error, config.codebook)

    digits = np.column_stack([quantization.codes, last]).astype(np.int16)
    table = pa.table({"item": items["item"], "sid": artifacts.fixed_size_list(digits)})
    with together(path.parent) as new:
        made = artifacts.write(
            new / path.name, "sids", table, config=recorded, inputs=inputs, started=started
        )
        artifacts.write(
            new / report.name,
            "quality",
            quality,
            config=recorded,
            inputs={**inputs, "sids": made},
            started=started,
        )
    return path


def _load(dataset: Dataset, source: Path) -> tuple[pa.Table, np.ndarray]:
    """Items, and their embeddings as float32 [N, D], checked to belong together."""
    items = artifacts.read(
        dataset.items, "items", hint=f"Run `maskgr download {dataset.name}` or `maskgr import` first."
    )
    table = artifacts.read(source, "embeddings", hint="Run `maskgr embed` first.")
    made_from = (artifacts.provenance(source) or {}).get("inputs", {}).get("items")
    if len(table) != len(items):
        raise UserError(
            f"{source} has {len(table)} rows but {dataset.items} has {len(items)} items. {EMBED_AGAIN}"
        )
    if made_from and made_from["sha256"] != artifacts.digest(dataset.items):
        raise UserError(f"{source} was made from other items than {dataset.items} now holds. {EMBED_AGAIN}")
    if len(items) < 2:
        raise UserError(f"{dataset.items} holds a single item; there is nothing to tell apart.")
    embedded = table.schema.field("embedding").type
    if not (
        pa.types.is_fixed_size_list(embedded)
        and pa.types.is_floating(embedded.value_type)
        and embedded.list_size
    ):
        raise UserError(
            f"{source}: column embedding is {embedded}, expected fixed-size lists of floats. {EMBED_AGAIN}"
        )
    vectors = artifacts.matrix(table, "embedding", source).astype(np.float32)
    finite = np.isfinite(np.einsum("nd,nd->n", vectors, vectors))
    if not finite.all():
        row = int(np.argmin(finite))
        raise UserError(
            f"{source}: the embedding of item {row} ({items['item_id'][row]}) holds NaN, infinite or huge values. {EMBED_AGAIN}"
        )
    return items, vectors


def _too_many(
    dataset: Dataset, items: pa.Table, vectors: np.ndarray, group: np.ndarray, config: TokenizeConfig
) -> str:
    """Why the largest group of items with equal digits does not fit, and what to change."""
    members = np.flatnonzero(group == np.bincount(group).argmax())
    size, first = len(members), vectors[members[0]]
    message = (
        f"{size} items of {dataset.items} get equal codes with --sids {config.num_levels}, e.g. item_id {items['item_id'][members[0]]}, "
        f"but the deduplication digit tells only {config.codebook} apart. "
    )
    larger = f", or use --codebook {size} or more" if size <= CODES[1] else ""
    if not vectors[members].any():
        return (
            message
            + f"Their embeddings are zero, as those of items without text are: give them text and embed again{larger}."
        )
    if (vectors[members] == first).all():
        return message + f"Their embeddings are equal: give them distinct texts and embed again{larger}."
    return (
        message
        + f"Use more digits (--sids {config.num_levels + 1}), a larger --codebook, or better embeddings (`maskgr embed`)."
    )
