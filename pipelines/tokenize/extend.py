"""Semantic IDs of items that a data set has gained, from the codebooks as they were fitted. Old ones stay."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines import artifacts
from pipelines.artifacts import Provenance
from pipelines.data import items as data_items
from pipelines.durable import inside, together
from pipelines.errors import UserError
from pipelines.formats import Source
from pipelines.progress import Progress
from pipelines.tokenize import random
from pipelines.tokenize.build import sids_table
from pipelines.tokenize.codebooks import Codebooks
from pipelines.tokenize.config import RANDOM
from pipelines.tokenize.deduplication import extend
from pipelines.tokenize.embeddings import stored_embeddings
from pipelines.tokenize.quality import quality_table
from pipelines.tokenize.quantization import TINY, group_equal
from pipelines.workspace import Dataset


def extend_sids(dataset: Dataset, name: str, progress: Progress) -> Path:
    """Give the items that a data set has gained their semantic IDs.

    The first rows of items.parquet must be the items of the semantic IDs, which stay as they are. The
    embeddings must have been extended (`extend_embeddings`). A new item gets its codes from the codebooks, or
    from an old item with the same embedding. The deduplication digit is the lowest that no item with these
    codes has. If there is none, the item takes the nearest other code of the last digit that has room.

    Args:
        name: name of the semantic IDs.

    Returns:
        path of the semantic IDs.

    Raises:
        UserError: the semantic IDs cannot be extended; the message says why and what to do.
    """
    with together(dataset.path) as new:
        write_extended(dataset, dataset, name, {}, inside(new, "sids"), progress)
    return dataset.sids(name)


def embeddings_of(dataset: Dataset, name: str) -> str | None:
    """Return the name of the embeddings that semantic IDs were made from; None if there are none."""
    provenance = artifacts.provenance(dataset.sids(name))
    source = provenance["inputs"].get("embeddings") if provenance else None
    return Path(source["path"]).stem if source else None


def write_extended(
    dataset: Dataset, grown: Dataset, name: str, extended: dict[str, Path], folder: Path, progress: Progress
) -> Path:
    """Write extended semantic IDs and their quality report into a folder, see `extend_sids`.

    Args:
        dataset: data set that holds the semantic IDs.
        grown: paths at which the grown items lie, the same data set or files that will replace it.
        extended: paths of embeddings that replace those of the data set, by name.
        folder: folder that is moved into place later.

    Returns:
        path of the extended semantic IDs in `folder`.
    """
    started = time.monotonic()
    path = dataset.sids(name)
    old = artifacts.matrix(artifacts.read(path, "sids"), "sid", path)  # [n, H]
    items = data_items.read_items(grown)
    again = f"maskgr tokenize --force --name {name}"
    provenance = data_items.require_grown(path, len(old), items, again, progress)
    settings, inputs = provenance["config"], dict(provenance["inputs"])
    inputs["items"] = Source(path="../items.parquet", sha256=artifacts.digest(grown.items))
    vectors = None
    if "embeddings" in inputs:
        embedding = Path(inputs["embeddings"]["path"]).stem
        file = extended.get(embedding, dataset.embeddings(embedding))
        vectors = _read_grown(grown, file, items, inputs["embeddings"], len(old), again)
        inputs["embeddings"] = {**inputs["embeddings"], "sha256": artifacts.digest(file)}
    if settings.get("method") == RANDOM:
        new = random.extend(old, len(items), settings["codebook"], settings["seed"])
    else:
        new = _from_codebooks(dataset, name, old.astype(np.int64), vectors, provenance, again)
    sids = np.concatenate([old, new.astype(old.dtype)])  # [N, H]
    fitted = data_items.fitted_count(provenance, len(old))
    recorded = {**settings, data_items.KEY: data_items.identity(items, fitted)}
    written = artifacts.write(
        folder / path.name, "sids", sids_table(sids), config=recorded, recorded=inputs, started=started
    )
    inputs.pop("codebooks", None)
    codes = sids[:, : settings["num_levels"]].astype(np.int64)
    quality = quality_table(
        vectors, codes, group_equal(codes)[0], _recorded_error(dataset.quality(name)), settings["codebook"]
    )
    artifacts.write(
        folder / dataset.quality(name).name,
        "quality",
        quality,
        config=recorded,
        recorded=inputs,
        inputs={"sids": written},
        started=started,
    )
    data_items.keep_age(path, written)
    return written


def _read_grown(
    grown: Dataset, file: Path, items: pa.Table, recorded: Source, count: int, again: str
) -> np.ndarray:
    """Read the embeddings of a grown catalogue, float32 [N, D].

    Args:
        recorded: embeddings that the semantic IDs were made from.
        count: number of the old items, whose embeddings must be the same.

    Raises:
        UserError: the embeddings were not extended, or those of old items changed.
    """
    vectors = stored_embeddings(grown, file, items).of(np.arange(len(items)))
    stored = artifacts.matrix(artifacts.read(file, "embeddings"), "embedding", file)[:count]
    numbers = pa.array(range(count), pa.int32())
    first = pa.table({"item": numbers, "embedding": artifacts.fixed_size_list(stored)})
    if artifacts.table_digest(first) != recorded["sha256"]:
        raise UserError(f"{file} holds other vectors of old items than the semantic IDs had. Run `{again}`.")
    return vectors


def _from_codebooks(
    dataset: Dataset,
    name: str,
    old: np.ndarray,
    vectors: np.ndarray | None,
    provenance: Provenance,
    again: str,
) -> np.ndarray:
    """Return the semantic IDs of new items, int64 [new, H].

    Args:
        old: semantic IDs of the old items, int64 [n, H].
        vectors: embeddings of all items, float32 [N, D].

    Raises:
        UserError: there are no codebooks, or they are not those of the semantic IDs.
    """
    path, source = dataset.codebooks(name), provenance["inputs"].get("codebooks")
    if "source" in provenance["config"]:
        raise UserError(
            f"{dataset.sids(name)} came from a file and cannot be extended. Run `maskgr tokenize --from FILE "
            f"--name {name}` with a file that has the new items."
        )
    if vectors is None or source is None or not artifacts.has_digest(path, source["sha256"]):
        raise UserError(f"{path} is missing or not the codebooks of {name}. Run `{again}`.")
    settings = provenance["config"]
    books = Codebooks.read(path, bool(settings.get("unit_residuals")))
    if settings.get("normalize"):
        vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), TINY)
    before, new = vectors[: len(old)], vectors[len(old) :]  # [n, D], [new, D]
    codes = books.quantize(new)  # [new, m]
    twins = pc.fill_null(pc.index_in(_rows(new), value_set=_rows(before)), -1).to_numpy()  # [new]
    codes[twins >= 0] = old[twins[twins >= 0], : codes.shape[1]]
    return extend(old, codes, settings["codebook"], lambda item: books.paths(new[item]))


def _rows(vectors: np.ndarray) -> pa.Array:
    """Return the bytes of each vector [n, D], by which equal vectors are found."""
    data = pa.py_buffer(np.ascontiguousarray(vectors).tobytes())
    width = vectors.shape[1] * vectors.itemsize  # bytes
    return pa.Array.from_buffers(pa.binary(width), len(vectors), [None, data])


def _recorded_error(report: Path) -> list[float] | None:
    """Return the relative quantization errors in a quality report, which are those of the fit; None if there
    are none.
    """
    rows = artifacts.read(report, "quality").to_pylist()
    values = {row["level"]: row["value"] for row in rows if row["measure"] == "relative_error"}
    return [values[level] for level in sorted(values)] or None
