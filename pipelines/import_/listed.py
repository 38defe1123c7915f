"""Sequences that another program wrote as a folder of Parquet files: a data set that lists these files."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines import artifacts
from pipelines.data.listing import KIND, ItemNumbers, is_id, is_list
from pipelines.data.sequences import Sequences, sequences_of
from pipelines.durable import together
from pipelines.errors import UserError, reading
from pipelines.import_.combined import read_all
from pipelines.import_.config import LISTED, ImportConfig
from pipelines.import_.items import read_items
from pipelines.import_.roles import known
from pipelines.prepare.account import Account
from pipelines.prepare.catalogue import text_of
from pipelines.progress import Progress
from pipelines.readers.names import ITEM_ROWS, ITEMS, USERS, matches
from pipelines.readers.paths import files_of
from pipelines.readers.rows import Reading
from pipelines.workspace import Dataset, Workspace

FLAG = "--sequences"
USERS_AT_ONCE = 1 << 24  # users whose ids are compared with each other at a time


def import_sequences(
    workspace: Workspace,
    name: str,
    config: ImportConfig,
    progress: Progress,
    *,
    sequences: Path,
    items: Sequence[Path],
    force: bool = False,
) -> Dataset:
    """Make a data set of sequences that stay where they are, and make it the current data set.

    The files have a row for each user, with the list of the user's items in order of time, as Spark, Ray Data
    or DuckDB write them. All files are read once: every list has three items or more, every item is in the
    items file, and no user has two rows.

    Args:
        name: name of the data set.
        sequences: folder of the files, with folders of partitions in it or not.
        items: files with one row per item, see `import_dataset`.
        force: read the files again even if nothing changed.

    Raises:
        UserError: a file, a column or a row cannot be used; the message names it and says what to do.
    """
    dataset, folder = workspace.dataset(name), sequences.resolve()
    if not folder.is_dir():
        raise UserError(f"{sequences} is no folder of Parquet files. Check {FLAG}.")
    if dataset.interactions.exists():
        raise UserError(
            f"{name} is a data set of interactions. Choose another name, or remove it first: maskgr rm "
            f"datasets/{name}"
        )
    files, catalogues = files_of([folder], FLAG), files_of(items, "--items")
    user, lists = _columns(files, config)
    inputs = {f"items {number}": file for number, file in enumerate(catalogues, start=1)}
    recorded = {key: value for key, value in dataclasses.asdict(config).items() if key in LISTED}
    recorded |= {"folder": str(folder), "users": user, "lists": lists}
    if not force and _is_current(dataset, recorded, inputs, folder, files):
        progress.say(f"{name} is up to date ({dataset.path}).")
    else:
        started = time.monotonic()
        table = _catalogue(catalogues, config, progress)
        listing = _listing(folder, files, user, lists, ItemNumbers(table["item_id"]), len(table), progress)
        with together(dataset.path) as new:
            path = artifacts.write(
                new / "items.parquet", "items", table, config=recorded, inputs=inputs, started=started
            )
            artifacts.write(
                new / "sequences.parquet",
                KIND,
                listing,
                config=recorded,
                inputs={"items": path},
                started=started,
            )
    workspace.use(name)
    return dataset


def _columns(files: list[Path], config: ImportConfig) -> tuple[str, str]:
    """Return the columns of users and of lists of items, which all files have.

    Raises:
        UserError: a file is no Parquet file, or has no such column.
    """
    user = lists = ""
    for file in files:
        with reading(file, "Parquet file", f"Check {FLAG}."):
            schema = pq.read_schema(file)
        listed = [field.name for field in schema if is_list(field.type)]
        if not user:
            user = config.user_column or next(iter(matches(schema.names, USERS)), "")
            by_name = config.item_column if config.item_column in schema.names else None
            lists = by_name or next(iter([*matches(listed, ITEMS, listed), *listed]), "")
        if user not in schema.names or lists not in listed:
            raise UserError(
                f"{file} has no column {user or 'of users'} or no column {lists or 'of lists of items'}; it "
                f"has {', '.join(schema.names)}. Name them with --user-column and --item-column."
            )
        if not is_id(schema.field(user).type):
            raise UserError(
                f"{file}: column {user} holds {schema.field(user).type}; ids of users are whole numbers or "
                "texts. Name another column with --user-column."
            )
    return user, lists


def _is_current(
    dataset: Dataset, recorded: dict[str, object], inputs: dict[str, Path], folder: Path, files: list[Path]
) -> bool:
    """Return True if the data set lists these files as they are, with these settings."""
    provenance = artifacts.provenance(dataset.sequences)
    if provenance is None or provenance["stage"] != KIND or provenance["config"] != recorded:
        return False
    if artifacts.stale(dataset.items, recorded, inputs) or artifacts.stale(dataset.sequences):
        return False
    table = artifacts.read(dataset.sequences, KIND)
    listed = zip(*(table[name].to_pylist() for name in ("file", "bytes", "modified")), strict=True)
    return list(listed) == [_status(folder, file) for file in files]


def _status(folder: Path, file: Path) -> tuple[str, int, int]:
    """Return the path below the folder, the size in bytes, and the time of the last change in nanoseconds."""
    status = file.stat()
    return str(file.relative_to(folder)), status.st_size, status.st_mtime_ns


def _catalogue(files: list[Path], config: ImportConfig, progress: Progress) -> pa.Table:
    """Return the items in the order of the items files, an artifact of kind "items"."""
    account = Account()
    rows = read_all(files, "--items", Reading(encoding=config.encoding), account, progress)
    named = config.item_column if config.item_column in rows.columns else None
    column = named or next(iter(known(rows.table, ITEM_ROWS)), None)
    if column is None:
        raise UserError(
            f"{rows.name} has no column of items that is known by its name; it has "
            f"{', '.join(rows.columns)}. Name it with --item-column, or call it item_id."
        )
    table, texts = read_items(rows, column, config, account)
    for line in account.short():
        progress.say(line)
    numbered = table.with_columns(
        item=pl.int_range(pl.len(), dtype=pl.Int32), text=text_of(table.schema, texts).fill_null("")
    )
    arrow = numbered.select("item", "item_id", "text", pl.exclude("item", "item_id", "text")).to_arrow(
        compat_level=pl.CompatLevel.oldest()
    )
    plain = [
        field.with_type(pa.string()) if pa.types.is_large_string(field.type) else field
        for field in arrow.schema
    ]
    return arrow.cast(pa.schema(plain))


def _listing(
    folder: Path,
    files: list[Path],
    user: str,
    lists: str,
    numbers: ItemNumbers,
    n_items: int,
    progress: Progress,
) -> pa.Table:
    """Read all files and return the list of them, an artifact of kind "sequence_files".

    Raises:
        UserError: a row cannot be used.
    """
    rows, first = list[tuple[str, int, int, int, int, str]](), 0
    with progress.task("Reading sequences", total=len(files), unit="files") as task:
        for file in files:
            users = interactions = 0
            for part in _read(file, lists, first, numbers, n_items):
                users, interactions = users + len(part), interactions + len(part.items)
            rows.append((*_status(folder, file), users, interactions, artifacts.file_digest(file)))
            first += users
            task.advance()
    _refuse_repeated(files, user, first)
    schema = pa.schema(list(artifacts.SCHEMAS[KIND].items()))
    columns = zip(*rows, strict=True)
    listing = pa.table(
        [pa.array(column, kind) for column, kind in zip(columns, schema.types, strict=True)], schema
    )
    total = pc.sum(listing["interactions"]).as_py()
    progress.say(f"{len(files):,} files with {first:,} users and {total:,} interactions stay in {folder}.")
    return listing


def _read(file: Path, lists: str, first: int, numbers: ItemNumbers, n_items: int) -> Iterator[Sequences]:
    """Yield the sequences of each row group of a file, whose first user has the number `first`."""
    advice = f"Check {FLAG}."
    with reading(file, "Parquet file", advice):
        opened = pq.ParquetFile(file)
    for number in range(opened.num_row_groups):
        with reading(file, "Parquet file", advice):
            column = opened.read_row_group(number, columns=[lists]).column(lists)
        yield sequences_of(file, column, n_items, first=first, numbers=numbers)
        first += len(column)


def _refuse_repeated(files: list[Path], user: str, count: int) -> None:
    """Refuse users without an id and users with two rows. Ids are compared in passes of bounded memory.

    Raises:
        UserError: there is such a user.
    """
    passes = -(-count // USERS_AT_ONCE)
    for number in range(passes):
        parts = []
        for file in files:
            with reading(file, "Parquet file", f"Check {FLAG}."):
                column = pq.read_table(file, columns=[user], partitioning=None)[user]
                column.validate(full=True)  # texts that are no UTF-8
                ids = pl.Series(pl.from_arrow(column))
            if ids.null_count():
                raise UserError(f"{file}: column {user} has no value in row {ids.is_null().arg_true()[0]}.")
            parts.append(ids.filter(ids.hash() % passes == number))
        ids = pl.concat(parts)
        if len(repeated := ids.filter(ids.is_duplicated())):
            raise UserError(
                f"User {repeated[0]!r} has {(ids == repeated[0]).sum()} rows in the files of {FLAG}, and "
                f"{repeated.n_unique() - 1:,} other users have several. A user needs one row."
            )
