"""Recommendations to all users of the data set: a stream of blocks of users, shared among processes, into one
Parquet file. The memory does not depend on the number of users.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.data.sequences import Sequences
from pipelines.durable import explained, staging
from pipelines.processes import Processes, from_first, require_shared
from pipelines.progress import Progress, Task
from pipelines.recommend.model import Model, Query

BLOCK = 8192  # users


def recommend_to_everyone(
    model: Model,
    path: Path,
    query: Query,
    progress: Progress,
    processes: Processes | None = None,
) -> int:
    """Write recommendations to all users into a Parquet file, with a row for each recommendation.

    Args:
        model: the model.
        path: the file, which is replaced when all users are done.
        query: settings of the recommendations.
        progress: where progress is reported.
        processes: processes that share the users; the first one writes the file.

    Returns:
        Number of users.

    Raises:
        UserError: the file cannot be written, the machines of the processes do not share its folder, or the
            model was loaded from a bundle.
    """
    processes = processes or Processes()
    if processes.count > 1:
        require_shared(path.parent)
    total, started = len(model.stored), time.monotonic()
    with _shared_folder(path, processes) as folder:
        parts = [folder / str(rank) for rank in range(processes.count)]
        with progress.task("Recommending", total=total, unit="users") as task:
            cut = _write_part(model, parts[processes.rank], query, processes, task)
        counts = np.zeros(1 + processes.count, np.int64)  # histories that are cut; parts that exist
        counts[0], counts[1 + processes.rank] = cut, parts[processes.rank].exists()
        cut, *written = processes.total(counts).tolist()  # after this all processes have written
        if processes.rank == 0:
            _merge([part for part, exists in zip(parts, written, strict=True) if exists], folder / path.name)
            (folder / path.name).replace(path)
    seconds = time.monotonic() - started
    if cut:
        most = model.trained.model.config.max_items
        progress.say(f"The model sees the last {most} items of a history; {cut:,} of {total:,} are longer.")
    progress.say(f"{total:,} users in {seconds:.1f} s: {total / seconds:,.0f} users/s ({path}).")
    return total


@contextmanager
def _shared_folder(path: Path, processes: Processes) -> Iterator[Path]:
    """Yield a staging folder of all processes, beside the file that is written.

    Raises:
        UserError: a file cannot be written there.
    """
    with explained(path), staging(path.parent) if processes.rank == 0 else nullcontext() as first:
        name = first.name if first else ""
        yield path.parent / (from_first(name) if processes.count > 1 else name)


def _write_part(model: Model, path: Path, query: Query, processes: Processes, task: Task) -> int:
    """Write the recommendations to the users of this process, a row group for each block.

    Returns:
        Number of histories that are longer than the model sees.
    """
    most, cut = model.trained.model.config.max_items, 0
    with _Writer(path) as writer:
        for number, (first, names, histories) in enumerate(model.stored.users(BLOCK)):
            if number % processes.count == processes.rank:
                cut += histories.truncated(most)
                writer.write(_recommended(model, first, names, histories, query))
                task.advance(len(histories) * processes.count)
    return cut


def _recommended(
    model: Model, first: int, names: pa.ChunkedArray, histories: Sequences, query: Query
) -> pa.Table:
    """Return the recommendations to a block of users.

    Args:
        model: the model.
        first: number of the first user.
        names: ids of the users.
        histories: their items.
        query: settings of the recommendations.
    """
    found = model.find(query, histories, np.arange(first, first + len(histories)))
    ids = pl.Series("user_id", pl.from_arrow(names)).cast(pl.String)
    table = found.frame(ids, model.table.names).to_arrow(compat_level=pl.CompatLevel.oldest())
    return table.cast(pa.schema([_plain(field) for field in table.schema]))


def _plain(field: pa.Field) -> pa.Field:
    return pa.field(field.name, pa.string() if pa.types.is_large_string(field.type) else field.type)


class _Writer:
    """Parquet file that is created with the first table; each table is a row group."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> _Writer:
        return self

    def write(self, table: pa.Table) -> None:
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, table.schema, compression="zstd")
        self._writer.write_table(table, row_group_size=max(1, len(table)))

    def __exit__(self, *error: object) -> None:
        if self._writer is not None:
            self._writer.close()


def _merge(parts: list[Path], path: Path) -> None:
    """Join the row groups of the parts, one of each part in turn, so that users keep their order."""
    files = [pq.ParquetFile(part) for part in parts]
    with _Writer(path) as writer:
        for number in range(max(file.num_row_groups for file in files)):
            for file in files:
                if number < file.num_row_groups:
                    writer.write(file.read_row_group(number))
