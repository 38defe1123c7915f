"""Embeddings of a catalogue, read in blocks, and the sample of items that codebooks are learned from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import artifacts
from pipelines.artifact_parts import read_parts
from pipelines.errors import UserError
from pipelines.workspace import Dataset

AGAIN = "Run `maskgr embed` again."
ROWS = 1 << 16  # items of a block
TINY = np.finfo(np.float32).tiny


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Embeddings of N items of D dimensions, in a file.

    Attributes:
        path: the file.
        items: table with item_id.
        unit: True if the vectors are scaled to unit length as they are read.
    """

    path: Path
    items: pa.Table
    unit: bool = False

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the first item of a block, and the vectors of the block, float32 [n, D].

        Raises:
            UserError: the file cannot be read, or an embedding cannot be used.
        """
        start = 0
        for table in read_parts(self.path, "embeddings", hint="Run `maskgr embed` first.", rows=ROWS):
            kind = table.schema.field("embedding").type
            is_list = pa.types.is_fixed_size_list(kind)
            if not (is_list and pa.types.is_floating(kind.value_type) and kind.list_size):
                raise UserError(
                    f"{self.path}: column embedding is {kind}, expected fixed-size lists of floats. {AGAIN}"
                )
            vectors = artifacts.matrix(table, "embedding", self.path).astype(np.float32)  # [n, D]
            finite = np.isfinite(np.einsum("nd,nd->n", vectors, vectors))  # [n]
            if not finite.all():
                row = start + int(np.argmin(finite))
                raise UserError(
                    f"{self.path}: the embedding of item {row} ({self.items['item_id'][row]}) holds NaN, "
                    f"infinite or huge values. {AGAIN}"
                )
            if self.unit:
                vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), TINY)
            yield start, vectors
            start += len(vectors)

    def of(self, rows: np.ndarray) -> np.ndarray:
        """Return the vectors of some items, float32 [n, D]; all are read and checked.

        Args:
            rows: numbers of the items, int64 [n], ascending.
        """
        chosen: np.ndarray | None = None
        done = 0
        for start, vectors in self.blocks():
            if chosen is None:
                chosen = np.empty((len(rows), vectors.shape[1]), np.float32)
            end = int(np.searchsorted(rows, start + len(vectors)))
            chosen[done:end] = vectors[rows[done:end] - start]
            done = end
        assert chosen is not None  # an artifact has rows
        return chosen


def stored_embeddings(dataset: Dataset, path: Path, items: pa.Table, unit: bool = False) -> Embeddings:
    """Return embeddings in a file, and check that they belong to the items.

    Args:
        items: the items of the data set.
        unit: True if the vectors are to be scaled to unit length.

    Raises:
        UserError: the file is missing or unreadable, or its embeddings are of other items.
    """
    next(read_parts(path, "embeddings", hint="Run `maskgr embed` first.", rows=1))
    count = pq.read_metadata(path).num_rows
    provenance = artifacts.provenance(path)
    made_from = provenance["inputs"].get("items") if provenance else None
    if count != len(items):
        raise UserError(f"{path} has {count} rows but {dataset.items} has {len(items)} items. {AGAIN}")
    if made_from and made_from["sha256"] != artifacts.digest(dataset.items):
        raise UserError(f"{path} was made from other items than {dataset.items} now holds. {AGAIN}")
    return Embeddings(path, items, unit)


def sample(count: int, largest: int | None, seed: int) -> np.ndarray:
    """Return the items that codebooks are learned from, int64 [n], ascending.

    Args:
        count: N.
        largest: most items; None, or at least N, for all.
        seed: seed of the draw.
    """
    if largest is None or largest >= count:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, largest, replace=False))
