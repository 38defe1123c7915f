"""Roles of columns: which column holds users, items, times and ratings."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

import polars as pl

from pipelines.errors import UserError
from pipelines.import_.combined import PIECE, Combined
from pipelines.import_.config import NONE, ImportConfig
from pipelines.import_.identifiers import Identifiers
from pipelines.import_.values import kind_of, readable
from pipelines.readers.names import (
    ITEM_ROWS,
    ITEMS,
    POSITIONS,
    RATINGS,
    TIMESTAMPS,
    USERS,
    is_known_identifier,
    matches,
    plain,
    plain_of_list,
)

EPOCH = (10**8, 2**63 - 1)  # bounds of numbers that may be times since 1970, in seconds to nanoseconds
SAMPLE = 1_000  # rows from which a column of times is guessed for a message


@dataclass(frozen=True)
class Roles:
    """Columns of interactions.

    Attributes:
        user: column of users.
        item: column of items.
        time: column of times or positions; None for the order of the file.
        rating: column of ratings; None if there is none.
        notes: role → other columns that might have been taken.
    """

    user: str
    item: str
    time: str | None
    rating: str | None
    notes: dict[str, str]


def known(log: Combined | pl.DataFrame, names: tuple[str, ...]) -> list[str]:
    """Return the columns that are known by a name, best first."""
    lists = [name for name, kind in log.schema.items() if isinstance(kind, (pl.List, pl.Array))]
    return matches(log.columns, names, lists)


def find_roles(log: Combined, item: str, config: ImportConfig) -> Roles:
    """Return the columns of interactions.

    Args:
        item: column of items, see `find_items`.

    Raises:
        UserError: a column is missing, is not known by its name, or has two roles.
    """
    users = known(log, USERS)
    user = named(log, config.user_column, "--user-column") or _first(log, users, "users", "--user-column")
    time = _time(log, config)
    if len({user, item, time}) < 3:
        raise UserError(
            f"{log.name}: users, items and times need a column each, not {user}, {item} and {time}. Name "
            "them with --user-column, --item-column and --time-column."
        )
    rating = next((name for name in known(log, RATINGS) if name not in (user, item, time)), None)
    log.require([name for name in (user, item, time) if name is not None])
    notes = {"users": "" if config.user_column else _others(user, users, "--user-column")}
    return Roles(user, item, time, rating, notes)


def find_items(log: Combined, items: Combined | None, config: ImportConfig) -> tuple[str, str | None, str]:
    """Return the column of items of the interactions, that of the items file, and how they were chosen.

    Of several columns that are known by their names, the pair is taken whose ids agree best.

    Raises:
        UserError: a column is missing or not known by its name.
    """
    given = named(log, config.item_column, "--item-column")
    choices = [given] if given else known(log, ITEMS)
    first = choices[0] if choices else _first(log, choices, "items", "--item-column")
    if items is None:
        return first, None, "" if given else _others(first, choices, "--item-column")
    # The given name may be that of a column in one file only.
    both = config.item_column in items.columns
    rows = [str(config.item_column)] if both else known(items, ITEM_ROWS)
    if not rows:
        raise UserError(
            f"{items.name} has no column of items that is known by its name; it has "
            f"{', '.join(items.columns)}. Name it with --item-column, or call it item_id."
        )
    if len(choices) == len(rows) == 1:
        return first, rows[0], ""
    shares = {(a, b): _agreement(log, a, items, b) for a in choices or [first] for b in rows}
    best = max(shares, key=lambda pair: shares[pair])  # of equal ones the first
    others = [f"{a} {shares[a, b]:.0%} in {b}" for a, b in shares if (a, b) != best]
    return (*best, f"{shares[best]:.0%} of its ids are in {best[1]} of the items file; {', '.join(others)}")


def named(log: Combined, name: str | None, option: str) -> str | None:
    """Return the name of a column that the user gives, or None.

    Raises:
        UserError: there is no such column.
    """
    if name is None or name in log.columns:
        return name
    close = difflib.get_close_matches(name, log.columns, 1, 0.6)
    within = [column for column in log.columns if column.startswith(f"{name}.")]
    advice = f" Did you mean {(within or close)[0]}?" if within or close else ""
    raise UserError(
        f"{log.name} has no column {name!r}; it has {', '.join(log.columns)}.{advice} Name one of them with "
        f"{option}."
    )


def is_position(name: str) -> bool:
    """Return True for the name of a column of positions."""
    return {plain(name), plain_of_list(name)} & set(map(plain, POSITIONS)) != set()


def refuse_headless(log: Combined) -> None:
    """Refuse files whose columns have no names.

    Raises:
        UserError: a file has no header; the message shows its columns and the option that names them.
    """
    for source in log.sources:
        if source.rows.headless:
            table = next(source.rows.tables())
            shown = [f"{kind_of(column)} ({column[0]!r})" for column in table]
            names = _suggested(table)
            raise UserError(
                f"{source.path} has no header. Its columns are {', '.join(shown)}. Name them in their order, "
                f"e.g. --columns {','.join(names)}"
            )


def _suggested(table: pl.DataFrame) -> list[str]:
    """Return names for the columns of a file without a header: the user may have to exchange some."""
    names, rest = [], ["user", "item"]
    taken = {name for name in table.columns if _may_be_time(table[name])}
    time = next(iter(taken), None)
    for name in table.columns:
        if name == time:
            names.append("time")
        elif rest:
            names.append(rest.pop(0))
        else:
            names.append("rating" if "rating" not in names and table[name].dtype.is_numeric() else name)
    return names


def _time(log: Combined, config: ImportConfig) -> str | None:
    if config.time_column == NONE:
        return None
    given = named(log, config.time_column, "--time-column")
    found = [given] if given else known(log, (*TIMESTAMPS, *POSITIONS))
    if found or log.ordered or _holds_lists(log):
        return next(iter(found), None)
    table = log.head(PIECE)
    guesses = [name for name in log.columns if _may_be_time(table[name])]
    guess = f" {guesses[0]} ({readable(table[guesses[0]]).drop_nulls()[0]}) may be it." if guesses else ""
    raise UserError(
        f"{log.name} has no column of times that is known by its name; it has "
        f"{', '.join(log.columns)}.{guess} Name the one of times with --time-column, or take the order of "
        "the file with --time-column none."
    )


def _holds_lists(log: Combined) -> bool:
    """Return True if the first column that is known as one of items holds lists."""
    return any(isinstance(log.schema[name], pl.List) for name in known(log, ITEMS)[:1])


def _may_be_time(column: pl.Series) -> bool:
    """Return True for dates, texts that begin like dates, and numbers in the range of times since 1970."""
    values = column.drop_nulls().head(SAMPLE)
    if not len(values) or column.dtype in (pl.Date, pl.Datetime):
        return bool(len(values))
    if column.dtype == pl.String:
        return bool(values.str.contains(r"^\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}").all())
    return column.dtype.is_numeric() and bool(values.cast(pl.Float64).is_between(*EPOCH).all())


def _agreement(log: Combined, a: str, items: Combined, b: str) -> float:
    """Return the share of the distinct ids of a column of the interactions that one of the items file has."""
    ids = []
    for combined, name in ((log, a), (items, b)):
        found, parts = Identifiers("", ""), []
        try:
            for piece in combined.pieces():
                column = piece[name]
                column = column.explode() if isinstance(column.dtype, pl.List) else column
                parts.append(found.add(column).drop_nulls().unique())
        except UserError:  # a column of another kind
            return 0.0
        ids.append(found.finished(pl.concat(parts).unique()).unique())
    return float(ids[0].is_in(ids[1].implode()).mean() or 0.0) if len(ids[0]) else 0.0  # type: ignore[arg-type]


def _first(log: Combined, found: list[str], words: str, option: str) -> str:
    if found:
        return found[0]
    candidates = ", ".join(log.columns)
    raise UserError(
        f"{log.name} has no column of {words} that is known by its name; it has {candidates}. Name the one "
        f"of {words} with {option}, or all columns with --columns if the first line is no header."
    )


def _others(taken: str, found: list[str], option: str) -> str:
    others = [name for name in found if name != taken and is_known_identifier(name)]
    return f"not {', '.join(others)}; {option} names another" if others else ""
