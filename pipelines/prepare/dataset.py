"""Preparation of a data set: tables of interactions and items become artifacts.

The rules, in this order:
1. A row that repeats user, item and time of an earlier row is dropped.
2. k-core: users and items with fewer than k interactions are dropped, repeatedly, until no such user or item
   is left.
3. For leave-one-out, users with fewer than three items are dropped, because training, validation and testing
   need one item each. Users and items that then have fewer than k interactions are dropped too.
4. The items of a user are sorted by time. Rows of the same time keep their order in the file, or get a drawn
   one.
5. Users are numbered in the order of their first rows in the file, items as `catalogue` describes.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa

from pipelines import artifacts
from pipelines.durable import together
from pipelines.prepare.account import Account
from pipelines.prepare.catalogue import catalogue
from pipelines.prepare.coded import Coded
from pipelines.prepare.config import Preparation
from pipelines.prepare.cuts import Cuts, refuse_earlier
from pipelines.prepare.filters import SHORTEST, filtered
from pipelines.prepare.order import Ordered
from pipelines.prepare.tables import Tables
from pipelines.progress import Progress
from pipelines.temporal import TemporalSplit
from pipelines.workspace import Dataset

ROWS = 1 << 20  # interactions that are written at a time


class Prepared(NamedTuple):
    """A data set before it is written: its three artifacts, and its account.

    Attributes:
        interactions: in file order, those that the filters drop too.
        kept: true for the interactions that the filters leave, bool [N].
        items: the catalogue.
        sequences: parts of the sequences.
        split: temporal split; None for leave-one-out.
    """

    interactions: Coded
    kept: np.ndarray
    items: pl.DataFrame
    sequences: list[pa.Table]
    account: Account
    split: TemporalSplit | None


def arrange(dataset: Dataset, tables: Tables, how: Preparation, account: Account | None = None) -> Prepared:
    """Filter, sort and number a data set.

    Args:
        dataset: data set that is to be made; with `how.update`, its items keep their numbers.
        account: account of the reading, which is continued.

    Raises:
        UserError: the filters leave no interaction, the log cannot be cut by time, or the data set exists
            with a split that held out less.
    """
    account = account or Account()
    log = Coded.of(tables.interactions)
    kept, steps = filtered(log, how.min_count, dataset.name, 1 if how.begins else SHORTEST)
    account.steps += steps
    before = _before(dataset) if how.update else None
    taken, all_taken = (
        pl.DataFrame({"item_id": log.texts("item_id", rows)}) for rows in (kept, np.ones(len(log), bool))
    )
    items, notes = catalogue(taken, tables._replace(interactions=all_taken), how.untaken, before)
    account.notes += notes
    cuts = Cuts.of(log, kept, how.begins, dataset.name) if how.begins else None
    ordered = Ordered(log, kept, items, how.ties, how.seed, cuts)
    split = cuts.split(ordered.parts, dataset.name) if cuts else None
    if dataset.sequences.exists():
        refuse_earlier(split, TemporalSplit.of(dataset.sequences), dataset.name)
    account.notes += split.lines() if split else []
    account.tied_pairs, account.tied_last = ordered.tied_pairs, ordered.tied_last
    if log.when == "timestamp" or account.tied_pairs:
        drawn = f"their order is drawn with seed {how.seed}"
        account.order = drawn if how.ties == "shuffle" else "they keep the order of the file"
    return Prepared(log, kept, items, ordered.parts, account, split)


def write(
    dataset: Dataset,
    prepared: Prepared,
    *,
    config: Mapping[str, Any],
    inputs: Mapping[str, Path],
    started: float,
) -> None:
    """Write interactions, items and sequences, or none of them.

    Args:
        config: configuration of the whole stage, for the provenance.
        inputs: name → path of the files that the tables were read from, for the provenance.
        started: `time.monotonic()` at the start of the work.
    """
    log, kept = prepared.interactions, prepared.kept

    def interactions() -> Iterator[pa.Table]:
        for start in range(0, len(log), ROWS):
            rows = log.table[start : start + ROWS].filter(kept[start : start + ROWS])
            yield _arrow(rows)

    tables: dict[str, pa.Table | Callable[[], Iterable[pa.Table]]] = {
        "interactions": interactions,
        "items": _arrow(prepared.items),
        "sequences": lambda: prepared.sequences,
    }
    split = {"split": dataclasses.asdict(prepared.split)} if prepared.split else None
    accounts = {"interactions": prepared.account.values(), "sequences": split}
    with together(dataset.path) as new:
        paths = {kind: new / f"{kind}.parquet" for kind in tables}
        of_sequences = {name: paths[name] for name in ("interactions", "items")}
        for kind, table in tables.items():
            artifacts.write(
                paths[kind],
                kind,
                table,
                config=config,
                inputs=of_sequences if kind == "sequences" else inputs,
                started=started,
                account=accounts.get(kind),
            )


def prepare(
    dataset: Dataset,
    tables: Tables,
    how: Preparation,
    *,
    config: Mapping[str, Any],
    inputs: Mapping[str, Path],
    progress: Progress,
    account: Account | None = None,
    started: float | None = None,
) -> Dataset:
    """Filter, sort, number and write a data set, and report the account.

    Args:
        dataset: data set to write.
        account: account of the reading, which is continued.
        config, inputs, started: see `write`; without `started`, the work starts here.

    Raises:
        UserError: the filters leave no interaction, or a file cannot be written.
    """
    started = time.monotonic() if started is None else started
    prepared = arrange(dataset, tables, how, account)
    for line in prepared.account.short():
        progress.say(line)
    write(dataset, prepared, config=config, inputs=inputs, started=started)
    return dataset


def is_current(
    dataset: Dataset, config: Mapping[str, Any], inputs: Mapping[str, Path], force: bool, progress: Progress
) -> bool:
    """Return True if a data set was made from these files with this configuration, and report it.

    If the data set must be made again, the reason is reported.

    Args:
        force: make the data set again in any case.
    """
    reason = artifacts.stale(dataset.interactions, config, inputs) or artifacts.stale(dataset.sequences)
    if reason is None and not force:
        progress.say(f"{dataset.name} is up to date ({dataset.path}).")
        return True
    if dataset.sequences.exists():
        progress.say(f"Making {dataset.name} again: {reason or 'as requested'}.")
    return False


def _before(dataset: Dataset) -> pl.DataFrame | None:
    """Return the items of the data set that exists; None if there is none."""
    if not dataset.items.exists():
        return None
    frame = pl.from_arrow(artifacts.read(dataset.items, "items"))
    assert isinstance(frame, pl.DataFrame)
    return frame


def _arrow(table: pl.DataFrame) -> pa.Table:
    """Return a polars table as an Arrow table, with strings and lists of the types that the schemas have."""
    arrow = table.with_columns(pl.col(pl.Categorical).cast(pl.String)).to_arrow()
    types = {pa.large_string(): pa.string(), pa.string_view(): pa.string()}

    def convert(kind: pa.DataType) -> pa.DataType:
        if pa.types.is_large_list(kind):
            return pa.list_(convert(kind.value_type))
        return types.get(kind, kind)

    return arrow.cast(pa.schema([pa.field(field.name, convert(field.type)) for field in arrow.schema]))
