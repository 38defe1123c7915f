"""Rows of items that a file adds to a catalogue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from pipelines import artifacts
from pipelines.errors import UserError
from pipelines.keyed import read_keyed
from pipelines.options import quoted
from pipelines.prepare.catalogue import text_of
from pipelines.progress import Progress
from pipelines.readers.typed import leaf_type
from pipelines.workspace import Dataset

BASE = ("item", "item_id", "text")  # columns that every catalogue has


def with_new_rows(dataset: Dataset, file: Path, progress: Progress) -> tuple[pa.Table, int]:
    """Return the catalogue with the new items of a file after the old ones, and the number of new items.

    The old rows stay as they are. The columns of the catalogue keep their types; a column that only the file
    has is added, without values in the old rows. The text of a new item comes from the same columns as that
    of the old ones. An item of the catalogue that the file repeats with the same values is left out.

    Raises:
        UserError: the file cannot be used, a value does not fit the type of its column, or an item of the
            catalogue has other values in the file.
    """
    old = artifacts.read(dataset.items, "items", hint="Run `maskgr import` first.")
    provenance = artifacts.provenance(dataset.items)
    configured = provenance["config"].get("item_column") if provenance else None
    frame, ids = read_keyed(file, configured if isinstance(configured, str) else None)
    frame = frame.rename({name: _stored_name(name) for name in frame.columns})
    given = _typed(file, frame.with_columns(pl.Series("item_id", ids, pl.String)), old)
    numbers = {key: row for row, key in enumerate(old["item_id"].cast(pa.string()).to_pylist())}
    known = [key in numbers for key in ids]
    _check_known(file, given, old, [(row, numbers[key]) for row, key in enumerate(ids) if key in numbers])
    if any(known):
        progress.say(
            f"{sum(known):,} of {len(ids):,} items of {file} are in the catalogue already, unchanged."
        )
    new = given.filter(pa.array([not k for k in known]))
    columns = _text_columns(old, provenance["config"] if provenance else {})
    columns = columns or [name for name, kind in frame.schema.items() if _is_text(kind)]
    texts = _texts(_frame(new), [name for name in columns if name in new.column_names])
    numbered = new.append_column("item", pa.array(range(len(old), len(old) + len(new)), pa.int32()))
    tables = [old.replace_schema_metadata(None), numbered.append_column("text", texts)]
    return pa.concat_tables(tables, promote_options="default").combine_chunks(), len(new)


def _texts(frame: pl.DataFrame, columns: Sequence[str]) -> pa.Array:
    """Return the texts of items, "" where there is none."""
    texts = frame.with_columns(text_of(frame.schema, columns).fill_null("").alias("text"))["text"]
    return texts.to_arrow().cast(pa.string())


def _text_columns(old: pa.Table, config: Mapping[str, Any]) -> list[str]:
    """Return the columns that the texts of a catalogue were made from, in order.

    These are the configured columns, the columns of text, or the first columns, whichever give most texts.

    Args:
        config: recorded configuration of the catalogue.
    """
    frame = _frame(old)
    names = [name for name in old.column_names if name not in BASE]
    configured = [_stored_name(name.strip()) for name in str(config.get("text_columns") or "").split(",")]
    candidates = [
        [name for name in configured if name in names],
        [name for name in names if _is_text(frame.schema[name])],
        *(names[:count] for count in range(len(names), 0, -1)),
    ]
    texts = old["text"].combine_chunks()
    return max(candidates, key=lambda columns: pc.sum(pc.equal(_texts(frame, columns), texts)).as_py())


def _stored_name(name: str) -> str:
    """Return the name under which the catalogue stores a column of a file."""
    return f"{name}_given" if name in BASE else name


def _is_text(kind: pl.DataType) -> bool:
    return bool(leaf_type(kind) == pl.String)


def _frame(table: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _typed(file: Path, frame: pl.DataFrame, old: pa.Table) -> pa.Table:
    """Return a table whose columns have the types of the catalogue's columns of these names.

    Raises:
        UserError: a value does not fit.
    """
    table = frame.to_arrow()
    columns = {}
    for name in table.column_names:
        column = table[name]
        kind = old.schema.field(name).type if name in old.column_names else _plain(column.type)
        try:
            columns[name] = column.cast(kind)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise UserError(
                f"{file}: column {name} does not fit the catalogue, which has {kind} there "
                f"({str(error).splitlines()[0].rstrip('.')}). Give values of that type."
            ) from None
    return pa.table(columns)


def _plain(kind: pa.DataType) -> pa.DataType:
    """Return the type that artifacts store: text and lists without 64-bit offsets."""
    if pa.types.is_large_list(kind) or pa.types.is_list(kind):
        return pa.list_(_plain(kind.value_type))
    return pa.string() if pa.types.is_large_string(kind) or pa.types.is_string_view(kind) else kind


def _check_known(file: Path, given: pa.Table, old: pa.Table, pairs: list[tuple[int, int]]) -> None:
    """Check that items of the catalogue have the same values in the file.

    Args:
        pairs: row of the file and row of the catalogue of each such item.

    Raises:
        UserError: an item has other values; the message names its id and the column.
    """
    rows = np.array(pairs, np.int64).reshape(-1, 2)  # [pairs, 2]
    shared = [name for name in given.column_names if name in old.column_names]
    for name in shared:
        here = given[name].take(rows[:, 0]).to_pylist()
        there = old[name].take(rows[:, 1]).to_pylist()
        for (_, row), value, stored in zip(pairs, here, there, strict=True):
            if value != stored:
                raise UserError(
                    f"{file}: item {old['item_id'][row]} is in the catalogue already with another {name} "
                    f"({quoted(stored)}, not {quoted(value)}). `maskgr items add` only adds items: leave it "
                    "out, or import the data again."
                )
