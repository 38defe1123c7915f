"""Lists of items, one row a user, as one row an item."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from pipelines.errors import UserError
from pipelines.import_.combined import ROW, Combined
from pipelines.import_.roles import Roles


def holds_lists(log: Combined, roles: Roles) -> bool:
    """Return True if the column of items holds lists."""
    return isinstance(log.schema[roles.item], (pl.List, pl.Array))


def exploded(
    log: Combined, roles: Roles, piece: pl.DataFrame, lose: Callable[[str, int, int, str], None]
) -> pl.DataFrame:
    """Return one row an item. Lists of times and of ratings go with the lists of items.

    Args:
        piece: rows of `log`.
        lose: function that is called with the reason, the number, the first and its content, if there are
            rows whose lists have different lengths.

    Raises:
        UserError: there are lists of items, and times that are no lists.
    """
    table = piece.with_columns(
        pl.col(name).arr.to_list() for name, kind in piece.schema.items() if isinstance(kind, pl.Array)
    )
    if roles.time is not None and not isinstance(table.schema[roles.time], pl.List):
        raise UserError(
            f"{log.name}: column {roles.item} holds lists of items and column {roles.time} one time a row. "
            "Name a column of lists of times with --time-column, or take the order of the lists with "
            "--time-column none."
        )
    named = [name for name in (roles.item, roles.time) if name is not None]
    if roles.rating is not None and isinstance(table.schema[roles.rating], pl.List):
        named.append(roles.rating)
    lengths = [pl.col(name).list.len().fill_null(0) for name in named]
    equal = table.select(pl.all_horizontal([length == lengths[0] for length in lengths])).to_series()
    if not equal.all():
        row = table[ROW][(~equal).arg_true()[0]]
        counts = " and ".join(str(table.filter(~equal).select(length)[0, 0]) for length in lengths)
        lose(
            f"have lists of different lengths ({', '.join(named)})",
            int((~equal).sum()),
            row,
            f"{counts} entries",
        )
    kept = table.filter(equal).filter(pl.col(roles.item).list.len() > 0)
    others = [name for name in kept.columns if name not in (*named, roles.user, ROW)]
    return kept.drop(others).explode(named)
