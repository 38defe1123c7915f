"""Stage "tokenize": embeddings become semantic IDs, with a quality report."""

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
from pipelines.tokenize.quantization import Quantization, group_equal
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
    """Give each item of a data set its own semantic ID of H = m + 1 digits.

    Nothing is done if the semantic IDs are up to date.
    The first m digits come from the method. The last digit is the item's rank among the items with equal
    first digits, in item order (TIGER, arXiv 2305.05065, section 3.1), unless the method gives it.

    Args:
        embedding: name of the embeddings; None for the newest.
        name: name of the SIDs; None for `default_name`.
        force: make the SIDs even if they are up to date.

    Returns:
        path of the SIDs. The path of their quality report is `dataset.quality(NAME)`.

    Raises:
        UserError: there are no embeddings, they belong to other items or are not finite, the method refuses
            them, or more items have equal digits than there are codes.
    """
    started = time.monotonic()
    source = dataset.require_embeddings(embedding)
    name = name or default_name(source.stem, config)
    if name.endswith(".quality"):
        raise UserError(
            f"SIDs cannot be named {name!r}: names that end in .quality are taken by the reports. "
            "Choose another --name."
        )
    path, report = dataset.sids(name), dataset.quality(name)
    recorded = dataclasses.asdict(config)
    inputs = {"embeddings": source, "items": dataset.items}
    items, vectors = _load(dataset, source)

    reason = artifacts.stale(path, recorded, inputs)
    reason = reason or artifacts.stale(report, recorded, {**inputs, "sids": path})
    if reason is None and not force:
        progress.say(f"SIDs {name} are up to date ({path}).")
        return path
    again = f" again ({reason or 'as requested'})" if path.exists() else ""
    progress.say(f"Making SIDs {name} of {dataset.name} from its embeddings {source.stem}{again}.")

    sids, quality = _quantize(dataset, items, vectors, config, progress)
    with together(path.parent) as new:
        written = artifacts.write(
            new / path.name, "sids", sids, config=recorded, inputs=inputs, started=started
        )
        inputs = {**inputs, "sids": written}
        artifacts.write(
            new / report.name, "quality", quality, config=recorded, inputs=inputs, started=started
        )
    return path


def _quantize(
    dataset: Dataset, items: pa.Table, vectors: np.ndarray, config: TokenizeConfig, progress: Progress
) -> tuple[pa.Table, pa.Table]:
    """Make semantic IDs and their quality report.

    Args:
        vectors: embeddings, float32 [N, D], changed in place.

    Returns:
        artifact of kind "sids", artifact of kind "quality".
    """
    if config.normalize:
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    method = import_module(f"pipelines.tokenize.{config.method}")
    result: Quantization = method.quantize(vectors, config, progress)
    group, rank = group_equal(result.codes)
    last = rank if result.last is None else result.last  # [N]
    if last.max() >= config.codebook:
        raise UserError(_too_many(dataset, items, vectors, group, config))
    quality = quality_table(vectors, result.codes, group, result.relative_error, config.codebook)
    digits = np.column_stack([result.codes, last]).astype(np.int16)  # [N, H]
    return pa.table({"item": items["item"], "sid": artifacts.fixed_size_list(digits)}), quality


def _load(dataset: Dataset, source: Path) -> tuple[pa.Table, np.ndarray]:
    """Read the items and their embeddings, float32 [N, D], and check that they belong together.

    Raises:
        UserError: they do not belong together, there is only one item, or an embedding cannot be used.
    """
    items = artifacts.read(
        dataset.items, "items", hint=f"Run `maskgr download {dataset.name}` or `maskgr import` first."
    )
    table = artifacts.read(source, "embeddings", hint="Run `maskgr embed` first.")
    provenance = artifacts.provenance(source)
    made_from = provenance["inputs"].get("items") if provenance else None
    if len(table) != len(items):
        raise UserError(
            f"{source} has {len(table)} rows but {dataset.items} has {len(items)} items. {EMBED_AGAIN}"
        )
    if made_from and made_from["sha256"] != artifacts.digest(dataset.items):
        raise UserError(f"{source} was made from other items than {dataset.items} now holds. {EMBED_AGAIN}")
    if len(items) < 2:
        raise UserError(f"{dataset.items} holds a single item; there is nothing to tell apart.")
    kind = table.schema.field("embedding").type
    if not (pa.types.is_fixed_size_list(kind) and pa.types.is_floating(kind.value_type) and kind.list_size):
        raise UserError(
            f"{source}: column embedding is {kind}, expected fixed-size lists of floats. {EMBED_AGAIN}"
        )
    vectors = artifacts.matrix(table, "embedding", source).astype(np.float32)  # [N, D]
    finite = np.isfinite(np.einsum("nd,nd->n", vectors, vectors))  # [N]
    if not finite.all():
        row = int(np.argmin(finite))
        raise UserError(
            f"{source}: the embedding of item {row} ({items['item_id'][row]}) holds NaN, infinite or huge "
            f"values. {EMBED_AGAIN}"
        )
    return items, vectors


def _too_many(
    dataset: Dataset, items: pa.Table, vectors: np.ndarray, group: np.ndarray, config: TokenizeConfig
) -> str:
    """Return the message that too many items have equal digits, and what the user can change."""
    members = np.flatnonzero(group == np.bincount(group).argmax())
    size, first = len(members), vectors[members[0]]
    message = (
        f"{size} items of {dataset.items} get equal codes with --sids {config.num_levels}, "
        f"e.g. item_id {items['item_id'][members[0]]}, but the deduplication digit distinguishes only "
        f"{config.codebook}. "
    )
    larger = f", or use --codebook {size} or more" if size <= CODES[1] else ""
    if not vectors[members].any():
        return (
            f"{message}Their embeddings are zero, as those of items without text are: "
            f"give them text and embed again{larger}."
        )
    if (vectors[members] == first).all():
        return f"{message}Their embeddings are equal: give them distinct texts and embed again{larger}."
    return (
        f"{message}Use more digits (--sids {config.num_levels + 1}), a larger --codebook, "
        "or better embeddings (`maskgr embed`)."
    )
