"""Table of interactions: rows selected, users, items and times found, unusable rows counted."""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from pipelines.errors import UserError
from pipelines.import_.combined import ROW, Combined
from pipelines.import_.config import ImportConfig
from pipelines.import_.doubts import doubts
from pipelines.import_.identifiers import identifiers
from pipelines.import_.lists import exploded, holds_lists
from pipelines.import_.matching import unified
from pipelines.import_.roles import Roles, is_position
from pipelines.import_.times import Times, times
from pipelines.import_.unusable import Unusable
from pipelines.import_.values import kind_of, readable, values
from pipelines.options import typed
from pipelines.prepare.account import Account, Column, Step
from pipelines.prepare.filters import step
from pipelines.readers.typed import leaf_type
from pipelines.where.condition import condition


def read_interactions(
    log: Combined,
    roles: Roles,
    note: str,
    items: pl.Series | None,
    catalogue: Combined | None,
    config: ImportConfig,
    account: Account,
) -> pl.DataFrame:
    """Return user_id and item_id (text), timestamp or position (numbers), optionally rating; in file order.

    Args:
        note: how the column of items was chosen.
        items: ids of the items file; None without one.
    """
    total = len(log.table) + sum(len(source.rows.unread) for source in log.sources)
    log, spoken = _selected(log, roles, config)
    taken = {roles.user, roles.item, roles.time, *spoken} - {None}
    account.notes += doubts(log.table, {str(name) for name in taken}, roles.rating)
    unusable = Unusable()
    log.unread(unusable)
    is_lists = holds_lists(log, roles)
    if is_lists:
        total += len(log.table.lazy().select(pl.col(roles.item).explode()).collect()) - len(log.table)
        log = exploded(log, roles, unusable)
    user, user_note = identifiers(log.table[roles.user], log.name, "--user-column")
    item, item_note = identifiers(log.table[roles.item], log.name, "--item-column")
    if config.ids == "folded":
        item = unified(item, items, catalogue.name if catalogue else "")
    when = _times(log, roles, config)
    name = "timestamp" if roles.time is not None and when.form != "positions" else "position"
    table = pl.DataFrame(
        [log.table[ROW], user.alias("user_id"), item.alias("item_id"), when.values.alias(name)]
        + _rating(log, roles)
    )
    usable = _usable(log, roles, table, name, unusable)
    account.dropped += unusable.drops(total, config.max_bad_rows, log.name)
    kept = table.filter(usable).drop(ROW)
    if kept.is_empty():
        raise UserError(f"{log.name} has no row that can be used. Check --where and --min-rating.")
    account.columns[:0] = _described(log, roles, user_note, "; ".join(filter(None, (note, item_note))))
    account.times = _words(log, roles, when, is_lists)
    account.steps[:0] = _steps(log, kept, config)
    return kept


def _selected(log: Combined, roles: Roles, config: ImportConfig) -> tuple[Combined, set[str]]:
    """Return the rows that --where and --min-rating select, and the columns that they speak of.

    Raises:
        UserError: the condition cannot be used, or there are no ratings.
    """
    table, spoken = log.table, set[str]()
    if config.where is not None:
        schema = {name: table.schema[name] for name in log.columns}
        expression = condition(config.where, schema)
        spoken |= set(expression.meta.root_names())
        table = table.filter(expression)
    if config.min_rating is not None:
        if roles.rating is None or not leaf_type(table.schema[roles.rating]).is_numeric():
            raise UserError(
                f"{log.name} has no column of ratings that is known by its name; it has "
                f'{", ".join(log.columns)}. Leave --min-rating out, or write e.g. --where "stars >= 4".'
            )
        if table.schema[roles.rating].is_nested():
            raise UserError(f"{log.name}: --min-rating does not select from lists of ratings. Leave it out.")
        table = table.filter(pl.col(roles.rating).fill_nan(None) >= config.min_rating)
        spoken.add(roles.rating)
    if table.is_empty():
        raise UserError(f"No row of {log.name} satisfies {_conditions(config)}. Check the values.")
    return replace(log, table=table), spoken


def _conditions(config: ImportConfig) -> str:
    given = [f'--where "{config.where}"'] if config.where is not None else []
    return " and ".join(
        given + ([typed("--min-rating", config.min_rating)] if config.min_rating is not None else [])
    )


def _steps(log: Combined, kept: pl.DataFrame, config: ImportConfig) -> list[Step]:
    words = _conditions(config)
    read = sum(len(source.rows.table) for source in log.sources)
    name = f"Rows that can be used of {read:,}" + (f", {words}" if words else "")
    return [step(name, kept)]


def _times(log: Combined, roles: Roles, config: ImportConfig) -> Times:
    """Return the times of the rows; without a column of times, their numbers in the order of the file.

    Raises:
        UserError: the times cannot be used, or an option has no effect.
    """
    if roles.time is not None:
        if config.newest_first:
            raise UserError(
                f"--newest-first has no effect beside the times in column {roles.time}. Leave it out."
            )
        return times(log, roles.time, is_position(roles.time), config.time_format)
    if config.time_format is not None:
        raise UserError("--time-format has no effect without a column of times. Leave it out.")
    numbers = pl.Series(range(len(log.table)), dtype=pl.Int64)
    numbers = len(numbers) - 1 - numbers if config.newest_first else numbers
    return Times(numbers, "positions", "")


def _words(log: Combined, roles: Roles, when: Times, is_lists: bool) -> str:
    if roles.time is not None:
        return f"{when.form}, {when.span}"
    whose = "the lists" if is_lists else "the file"
    newest = " from its end" if len(when.values) > 1 and when.values[0] > when.values[1] else ""
    return f"none; the order is that of {whose}{newest}"


def _rating(log: Combined, roles: Roles) -> list[pl.Series]:
    if roles.rating is None or not log.table.schema[roles.rating].is_numeric():
        return []
    return [log.table[roles.rating].alias("rating")]


def _usable(log: Combined, roles: Roles, table: pl.DataFrame, when: str, unusable: Unusable) -> pl.Series:
    """Return the rows that have a user, an item and a time, and count the others by reason."""
    usable = pl.Series([True]).new_from_index(0, len(table))
    reasons = (
        ("user_id", roles.user, "have no user"),
        ("item_id", roles.item, "have no item"),
        (when, roles.time or "", "have no time"),
    )
    for name, column, reason in reasons:
        wrong = table[name].is_null() & usable
        given = log.table[column].is_not_null() if when == name and column else None
        for mask, words in _by_cause(wrong, given, reason):
            rows = mask.arg_true()
            if len(rows):
                place = log.place(table[ROW][rows[0]])
                value = readable(log.table[column])[rows[0]]
                unusable.add(words, len(rows), f"{place}: {column} is {value!r}")
        usable &= ~wrong
    return usable


def _by_cause(wrong: pl.Series, given: pl.Series | None, reason: str) -> list[tuple[pl.Series, str]]:
    """Return rows without a value, and rows whose value is no time."""
    if given is None:
        return [(wrong, reason)]
    return [(wrong & ~given, reason), (wrong & given, "have a time that is none like the others")]


def _described(log: Combined, roles: Roles, user_note: str, item_note: str) -> list[Column]:
    """Return the columns of interactions, for the account."""
    notes = {"users": "; ".join(filter(None, (roles.notes.get("users", ""), user_note))), "items": item_note}
    columns = {"users": roles.user, "items": roles.item, "times": roles.time, "ratings": roles.rating}
    return [
        Column(role, name, kind_of(log.table[name]), values(log.table[name]), notes.get(role, ""))
        for role, name in columns.items()
        if name is not None
    ]
