"""Artifacts that are written and read a table at a time, so that the memory does not grow with them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.artifacts import GROUP, PROVENANCE_KEY, provenance_of, table_digest
from pipelines.durable import atomic
from pipelines.errors import UserError, reading
from pipelines.schemas import validate


class Parts:
    """Artifact that is being written a table at a time, see `write_parts`."""

    def __init__(self, path: Path, temporary: Path, kind: str) -> None:
        self._path, self._temporary, self._kind = path, temporary, kind
        self._writer: pq.ParquetWriter | None = None
        self._digests: list[str] = []
        self._rows = 0

    def add(self, table: pa.Table) -> None:
        """Write a table as a row group of its own.

        Raises:
            UserError: the table does not match the schema of the artifact.
        """
        validate(self._path, self._kind, table, first=self._rows)
        self._rows += len(table)
        table = table.replace_schema_metadata(None)
        if self._writer is None:
            self._writer = pq.ParquetWriter(
                self._temporary, table.schema, compression="zstd", write_page_checksum=True
            )
        self._writer.write_table(table, row_group_size=len(table))
        self._digests.append(table_digest(table))

    @property
    def digest(self) -> str:
        """Digest of the content so far: that of the only table, or of the digests of several."""
        if len(self._digests) == 1:
            return self._digests[0]
        return hashlib.sha256("".join(self._digests).encode()).hexdigest()

    @property
    def is_empty(self) -> bool:
        """True if no table was added."""
        return not self._digests

    def close(self, provenance: Mapping[str, Any] | None = None) -> None:
        """End the file, with its provenance where it is complete."""
        if self._writer is not None:
            if provenance is not None:
                self._writer.add_key_value_metadata({PROVENANCE_KEY: json.dumps(provenance).encode()})
            self._writer.close()


@contextmanager
def write_parts(
    path: Path,
    kind: str,
    *,
    config: Mapping[str, Any],
    inputs: Mapping[str, Path] | None = None,
    started: float | None = None,
) -> Iterator[Parts]:
    """Write an artifact a table at a time. The file appears after the block.

    The digest of an artifact of one table is that of `artifacts.write`.

    Args:
        path, kind, config, inputs, started: see `artifacts.write`.

    Raises:
        UserError: no table was added, one does not match the schema, or the file cannot be written.
    """
    with atomic(path) as temporary:
        parts = Parts(path, temporary, kind)
        try:
            yield parts
        except BaseException:
            parts.close()
            raise
        if parts.is_empty:
            raise UserError(f"{path} would hold no rows; there is nothing to work on.")
        parts.close(provenance_of(path, kind, parts.digest, config=config, inputs=inputs, started=started))


def read_parts(
    path: Path, kind: str, *, hint: str = "", columns: list[str] | None = None, rows: int = GROUP
) -> Iterator[pa.Table]:
    """Yield the rows of one artifact in order, as tables that are read one by one and checked.

    Args:
        kind, hint, columns: see `read`.
        rows: most rows of a table.

    Raises:
        UserError: see `read`.
    """
    if not os.path.exists(path):  # noqa: PTH110 - unlike Path.exists, false for a path that is no valid file name
        raise UserError(f"{path} does not exist. {hint}".rstrip())
    advice, first = f"Remove it and make it again. {hint}".rstrip(), 0
    with ExitStack() as stack:
        with reading(path, "Parquet file", advice):
            file = stack.enter_context(pq.ParquetFile(path, page_checksum_verification=True))
            batches = file.iter_batches(rows, columns=columns)
            none = file.read(columns) if not file.metadata.num_rows else None
        if none is not None:
            validate(path, kind, none, columns)
        while True:
            with reading(path, "Parquet file", advice):
                batch = next(batches, None)
                if batch is None:
                    return
                table = pa.Table.from_batches([batch])
                table.validate(full=True)
            validate(path, kind, table, columns, first=first)
            first += len(table)
            yield table
