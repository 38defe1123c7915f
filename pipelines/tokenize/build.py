"""Stage "tokenize": embeddings become semantic IDs, with a quality report."""

from __future__ import annotations

import time
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from pipelines import artifacts
from pipelines.data import items as data_items
from pipelines.durable import together
from pipelines.errors import UserError
from pipelines.progress import Progress
from pipelines.tokenize.config import CODES, RANDOM, TokenizeConfig, default_name
from pipelines.tokenize.deduplication import digits_needed, to_digits
from pipelines.tokenize.embeddings import Embeddings, sample, stored_embeddings
from pipelines.tokenize.given import read_codes
from pipelines.tokenize.quality import quality_table
from pipelines.tokenize.quantization import Quantization, assign, group_equal
from pipelines.workspace import Dataset

TAKEN = {".quality": "reports", ".codebooks": "codebooks"}  # ending of a name → files that have it


def build_sids(
    dataset: Dataset,
    config: TokenizeConfig,
    progress: Progress,
    *,
    embedding: str | None = None,
    name: str | None = None,
    force: bool = False,
) -> Path:
    """Give each item of a data set its own semantic ID of H ≥ m + 1 digits.

    Nothing is done if the semantic IDs are up to date.
    The first m digits come from the method or from a file. The last digit is the item's rank among the items
    with equal first digits, in item order (TIGER, arXiv 2305.05065, section 3.1), unless the method gives it.
    If a group of such items has more than V members, further digits follow: H = m + 2 or more. Semantic IDs
    from a file have H = m if they are distinct. The codebooks are written together with the semantic IDs.

    Args:
        embedding: name of the embeddings; None for the newest. The method random and a file do without
            embeddings if there are none.
        name: name of the SIDs; None for `default_name`.
        force: make the SIDs even if they are up to date.

    Returns:
        path of the SIDs. The path of their quality report is `dataset.quality(NAME)`.

    Raises:
        UserError: there are no embeddings, they belong to other items or are not finite, the method refuses
            them, or the file cannot be used.
    """
    started = time.monotonic()
    source = _embeddings(dataset, config, embedding)
    name = name or default_name(source.stem if source else None, config)
    _refuse_taken(name)
    path, report, books = dataset.sids(name), dataset.quality(name), dataset.codebooks(name)
    items = data_items.read_items(dataset)
    if len(items) < 2:
        raise UserError(f"{dataset.items} holds a single item; there is nothing to tell apart.")
    unit = config.normalize and config.source is None
    embeddings = None if source is None else stored_embeddings(dataset, source, items, unit)
    recorded, inputs, given = config.recorded(len(items)), {"items": dataset.items}, None
    if source is not None:
        inputs["embeddings"] = source
    if config.source is not None:
        inputs["codes"] = Path(config.source).expanduser()
        codes = read_codes(inputs["codes"], items, progress)
        given = _given(codes)
        recorded |= {"num_levels": given.codes.shape[1], "codebook": max(CODES[0], int(codes.max()) + 1)}
    elif config.method != RANDOM:
        inputs["codebooks"] = books

    reason = _stale(path, recorded, inputs) or _stale(
        report, recorded, {k: v for k, v in inputs.items() if k != "codebooks"} | {"sids": path}
    )
    if reason is None and not force:
        progress.say(f"SIDs {name} are up to date ({path}).")
        return path
    again = f" again ({reason or 'as requested'})" if path.exists() else ""
    origin = f" from its embeddings {source.stem}" if source and not given else ""
    progress.say(f"Making SIDs {name} of {dataset.name}{origin}{again}.")

    rows = sample(len(items), config.sample, config.seed)
    vectors = None if embeddings is None else embeddings.of(rows)
    result = given or _quantize(vectors, embeddings, rows, len(items), config, progress)
    found = _Found(dataset, items, embeddings, rows, vectors)
    sids, quality = _finish(found, result, recorded["codebook"], progress)
    recorded[data_items.KEY] = data_items.identity(items)
    with together(path.parent) as new:
        if result.codebooks is not None:
            inputs["codebooks"] = artifacts.write(
                new / books.name, "codebooks", result.codebooks.table(), config=recorded, started=started
            )
        written = artifacts.write(
            new / path.name, "sids", sids, config=recorded, inputs=inputs, started=started
        )
        inputs = {k: v for k, v in inputs.items() if k != "codebooks"} | {"sids": written}
        artifacts.write(
            new / report.name, "quality", quality, config=recorded, inputs=inputs, started=started
        )
    return path


def _embeddings(dataset: Dataset, config: TokenizeConfig, embedding: str | None) -> Path | None:
    """Return the path of the embeddings; None if there are none and none are needed."""
    needed = config.method != RANDOM and config.source is None
    if not needed and embedding is None and not dataset.all_embeddings:
        return None
    return dataset.require_embeddings(embedding)


def _refuse_taken(name: str) -> None:
    for ending, files in TAKEN.items():
        if name.endswith(ending):
            raise UserError(
                f"SIDs cannot be named {name!r}: names that end in {ending} are taken by the {files}. "
                "Choose another --name."
            )


def _stale(path: Path, recorded: dict[str, Any], inputs: dict[str, Path]) -> str | None:
    """Return the reason why an artifact must be made again, or None; see `artifacts.stale`."""
    provenance = artifacts.provenance(path)
    kept = data_items.kept_identity(provenance["config"] if provenance else None)
    return artifacts.stale(path, {**recorded, **kept}, inputs)


def _given(codes: np.ndarray) -> Quantization:
    """Return given codes [N, digits] as the result of a method.

    If the codes are distinct, the last digit is the one that distinguishes equal items.
    """
    if codes.shape[1] > 1 and len(np.unique(codes, axis=0)) == len(codes):
        return Quantization(codes[:, :-1], last=codes[:, -1])
    return Quantization(codes)


def _quantize(
    vectors: np.ndarray | None,
    embeddings: Embeddings | None,
    rows: np.ndarray,
    count: int,
    config: TokenizeConfig,
    progress: Progress,
) -> Quantization:
    """Quantize embeddings by the configured method.

    Args:
        vectors: embeddings of the sample, float32 [n, D]; None for the method random.
        embeddings: all of them.
        rows: items of the sample, int64 [n].
        count: N.
    """
    if vectors is None or config.method == RANDOM:
        vectors = np.zeros((count, 0), np.float32)
    result: Quantization = import_module(f"pipelines.tokenize.{config.method}").quantize(
        vectors, config, progress
    )
    if len(rows) == count or embeddings is None or result.codebooks is None:
        return result
    progress.say(
        f"The codebooks are learned from {len(rows):,} of {count:,} items, drawn with seed {config.seed} "
        "(--sample); the quality report is about these items, apart from collisions and use of codes."
    )
    codes = np.empty((count, len(result.codebooks.centroids)), np.int32)  # [N, m]
    with progress.task("Assigning codes", total=count, unit="items") as task:
        for start, block in embeddings.blocks():
            codes[start : start + len(block)] = assign(result.codebooks, block)
            task.advance(len(block))
    return replace(result, codes=codes)


class _Found(NamedTuple):
    """What semantic IDs are made from.

    Attributes:
        items: the catalogue.
        embeddings: embeddings of all items; None if there are none.
        rows: items of the sample, int64 [n].
        vectors: clustered vectors of the sample, float32 [n, D], or None.
    """

    dataset: Dataset
    items: pa.Table
    embeddings: Embeddings | None
    rows: np.ndarray
    vectors: np.ndarray | None


def _finish(
    found: _Found, result: Quantization, codebook: int, progress: Progress
) -> tuple[pa.Table, pa.Table]:
    """Add the deduplication digits, and measure the quality.

    Args:
        codebook: V.

    Returns:
        artifact of kind "sids", artifact of kind "quality".
    """
    codes = result.codes
    group, rank = group_equal(codes)
    if result.last is not None:
        extra = result.last[:, None]  # [N, 1]
    else:
        count = digits_needed(int(rank.max()) + 1, codebook)
        extra = to_digits(rank, codebook, count)  # [N, H − m]
        if count > 1:
            progress.say(_many_equal(found, group, codes.shape[1], codebook, count))
    quality = quality_table(found.vectors, codes, group, result.relative_error, codebook, found.rows)
    digits = np.column_stack([codes.astype(np.int16), extra.astype(np.int16)])  # [N, H]
    return sids_table(digits), quality


def sids_table(digits: np.ndarray) -> pa.Table:
    """Return semantic IDs, int16 [N, H], as an artifact of kind "sids"."""
    numbers = pa.array(np.arange(len(digits), dtype=np.int32))
    return pa.table({"item": numbers, "sid": artifacts.fixed_size_list(digits)})


def _many_equal(found: _Found, group: np.ndarray, m: int, codebook: int, count: int) -> str:
    """Return the message that a group of items needs several deduplication digits, and what avoids this.

    Args:
        group: number of each item's group of equal codes, int64 [N].
        codebook: V.
        count: number of deduplication digits.
    """
    members = np.flatnonzero(group == np.bincount(group).argmax())
    size = len(members)
    message = (
        f"{size:,} items of {found.dataset.name} have equal codes, e.g. item_id "
        f"{found.items['item_id'][members[0]]}, "
        f"more than the {codebook:,} that a deduplication digit distinguishes: {count} such digits follow, "
        f"H = m + {count} = {m + count}. "
    )
    if found.embeddings is not None:
        vectors = found.embeddings.of(members)  # [size, D]
        if (vectors == vectors[0]).all():
            return f"{message}Their embeddings are equal: distinct texts tell them apart."
    return f"{message}More digits (--sids), a larger --codebook or other embeddings tell them apart."
