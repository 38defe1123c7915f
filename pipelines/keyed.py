"""Tables of other programs with one row per item, keyed by the item's id."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.errors import UserError

if TYPE_CHECKING:
    import polars as pl

SHOWN = 3  # ids that a message shows


def read_keyed(path: Path, column: str | None = None) -> tuple[pl.DataFrame, list[str]]:
    """Read a table with a column of item ids, which is found by its name.

    Args:
        column: name of the column of ids if the table has it; else a common name counts.

    Returns:
        the other columns; the ids as texts, all distinct.

    Raises:
        UserError: the file cannot be read, has no column of ids, or an id stands in several rows.
    """
    from pipelines.readers import names
    from pipelines.readers.read import read_table
    from pipelines.readers.typed import storable

    known = {names.plain(name) for name in (column, *names.ITEM_ROWS) if name}
    table = storable(read_table(path, lambda name: names.plain(name.rsplit(".", 1)[-1]) in known))
    name = (
        column if column in table.columns else next(iter(names.matches(table.columns, names.ITEM_ROWS)), None)
    )
    if name is None:
        raise UserError(
            f"{path} has no column of item ids that is known by its name; it has {', '.join(table.columns)}. "
            "Call it item_id."
        )
    return table.drop(name), checked_ids(path, _texts(path, table[name]))


def _texts(path: Path, column: pl.Series) -> list[str]:
    """Return a column of ids as texts.

    Raises:
        UserError: an id is missing, or is neither text nor a whole number.
    """
    import polars as pl

    if column.dtype.is_float():  # 151.0 is 151
        whole = column.cast(pl.Int64, strict=False)
        column = whole if (whole == column).all() else column
    if not (column.dtype.is_integer() or column.dtype == pl.String):
        raise UserError(
            f"{path}: column {column.name} holds {column.dtype} values; ids must be text or whole numbers."
        )
    texts = column.cast(pl.String).replace("", None)
    if texts.null_count():
        row = int(texts.is_null().arg_max() or 0)
        raise UserError(f"{path}: column {column.name} has no id in row {row + 1}. Give every item an id.")
    return texts.to_list()


def checked_ids(path: Path, ids: list[str]) -> list[str]:
    """Return ids that are all distinct.

    Raises:
        UserError: an id occurs twice.
    """
    values, counts = np.unique(np.array(ids, dtype=object), return_counts=True)
    if len(values) < len(ids):
        raise UserError(
            f"{path}: item id {values[counts > 1][0]!r} occurs several times. Keep one row an item."
        )
    return ids


def numbers_of(path: Path, ids: list[str], items: pa.Table) -> np.ndarray:
    """Return the item number of each id, −1 for ids that the catalogue does not have, int64 [rows].

    Args:
        path: file of the ids, for messages.
        items: artifact of kind "items".

    Raises:
        UserError: the catalogue has none of the ids.
    """
    catalogue = items["item_id"].cast(pa.string()).combine_chunks()
    found = pc.fill_null(pc.index_in(pa.array(ids, pa.string()), value_set=catalogue), -1)
    numbers = found.to_numpy(zero_copy_only=False).astype(np.int64)  # [rows]
    if (numbers < 0).all():
        theirs, ours = (", ".join(map(repr, side[:SHOWN])) for side in (ids, catalogue[:SHOWN].to_pylist()))
        raise UserError(
            f"{path}: none of its {len(ids):,} ids is an item of the data set. It has {theirs}; the data set "
            f"has {ours}. Give a file with the ids of the import."
        )
    return numbers
