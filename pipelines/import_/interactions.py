"""Table of interactions: rows selected, users, items and times found, unusable rows counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import polars as pl
import pyarrow as pa

from pipelines.errors import UserError
from pipelines.import_.combined import ROW, Combined
from pipelines.import_.config import ImportConfig
from pipelines.import_.doubts import Doubts
from pipelines.import_.identifiers import Identifiers
from pipelines.import_.lists import exploded, holds_lists
from pipelines.import_.matching import unified
from pipelines.import_.roles import Roles, is_position
from pipelines.import_.times import Clock
from pipelines.import_.unusable import Unusable
from pipelines.import_.values import Values, readable
from pipelines.options import typed
from pipelines.prepare.account import Account, Column, Drop
from pipelines.prepare.filters import step
from pipelines.prepare.tables import as_categories
from pipelines.progress import Progress
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
    progress: Progress,
) -> pl.DataFrame:
    """Return user_id and item_id (categories of text), timestamp or position (numbers), optionally rating.

    The rows are in file order. In memory they take up to 24 bytes each, and their distinct ids.

    Args:
        note: how the column of items was chosen.
        items: ids of the items file; None without one.
    """
    selection, spoken = _selection(log, roles, config)
    reading = _Reading(log, roles, spoken, config, selection)
    with progress.task("Reading interactions", len(log), "rows") as task:
        for piece in log.pieces():
            reading.add(piece)
            task.advance(len(piece))
    if not reading.selected:
        raise UserError(f"No row of {log.name} satisfies {_conditions(config)}. Check the values.")
    account.notes += reading.doubts.sentences()
    form, span = reading.clock.finish() if reading.clock is not None else ("positions", "")
    account.dropped += reading.drops()
    kept = reading.table(form == "positions", items, catalogue.name if catalogue else "")
    if kept.is_empty():
        raise UserError(f"{log.name} has no row that can be used. Check --where and --min-rating.")
    account.columns[:0] = reading.columns(note)
    account.times = f"{form}, {span}" if roles.time is not None else reading.order()
    words = _conditions(config)
    account.steps[:0] = [
        step(f"Rows that can be used of {len(log):,}" + (f", {words}" if words else ""), kept)
    ]
    return kept


WHEN = "\0when"  # column of times, until it is known whether they are positions
REASONS = {
    "have no user": 1,
    "have no item": 2,
    "have no time": 3,
    "have a time that is none like the others": 4,
}


class _Reading:
    """Interactions that are read piece by piece.

    Attributes:
        selected: number of rows that --where and --min-rating select, one per item of a list.
        doubts: columns that suggest that rows are no interactions.
        clock: times; None for the order of the file.
    """

    def __init__(
        self, log: Combined, roles: Roles, spoken: set[str], config: ImportConfig, selection: pl.Expr | None
    ) -> None:
        self._log, self._roles, self._config, self._selection = log, roles, config, selection
        self._is_lists = holds_lists(log, roles)
        taken = {str(name) for name in (roles.user, roles.item, roles.time, *spoken) if name is not None}
        self.doubts = Doubts(taken, roles.rating)
        self.selected = 0
        self._total = len(log) + sum(len(source.rows.unread) for source in log.sources)
        self._lost: dict[str, tuple[int, int, str]] = {}  # reason → number of rows, the first, what it holds
        self._users = Identifiers(log.name, "--user-column")
        self._items = Identifiers(log.name, "--item-column")
        self._kinds = {name: pl.Categorical(pl.Categories.random()) for name in ("user_id", "item_id")}
        self._forms: list[pl.Series] = []  # item ids as they are written, with --ids folded
        self._values = {role: Values() for role, name in self._named().items() if name is not None}
        self.clock = _clock(log, roles, config, self._pieces)
        self._parts: list[pl.DataFrame] = []

    def _named(self) -> dict[str, str | None]:
        roles = self._roles
        return {"users": roles.user, "items": roles.item, "times": roles.time, "ratings": roles.rating}

    def _pieces(self) -> Iterator[pl.DataFrame]:
        """Yield the selected rows, one per item."""
        for piece in self._log.pieces():
            table = piece if self._selection is None else piece.filter(self._selection)
            if len(table):
                is_lists = self._is_lists
                yield exploded(self._log, self._roles, table, lambda *_: None) if is_lists else table

    def add(self, piece: pl.DataFrame) -> None:
        """Take the rows of a piece that can be used."""
        table = piece if self._selection is None else piece.filter(self._selection)
        if table.is_empty():
            return
        self.doubts.add(table)
        if self._is_lists:
            items = table.lazy().select(pl.col(self._roles.item).explode()).collect()
            self._total += len(items) - len(table)
            table = exploded(self._log, self._roles, table, self._lose)
        for role, values in self._values.items():
            name = self._named()[role]
            if name in table.columns:
                values.add(table[name])
        users = self._users.add(table[self._roles.user])
        items_ = self._items.add(table[self._roles.item])
        if self._config.ids == "folded":
            self._forms.append(items_.drop_nulls().unique(maintain_order=True))
        columns = [
            users.cast(self._kinds["user_id"]).alias("user_id"),
            items_.cast(self._kinds["item_id"]).alias("item_id"),
            self._times(table).alias(WHEN),
        ]
        rating = self._roles.rating
        if rating in table.columns and table.schema[str(rating)].is_numeric():
            columns.append(table[str(rating)].alias("rating"))
        self.selected += len(table)
        rows = pl.DataFrame(columns)
        self._parts.append(rows.filter(self._usable(table, rows)))

    def _times(self, table: pl.DataFrame) -> pl.Series:
        """Return the times of rows; without a column of times, their numbers in the order of the file."""
        if self.clock is not None:
            return self.clock.read(table)
        return pl.int_range(self.selected, self.selected + len(table), dtype=pl.Int64, eager=True)

    def _usable(self, table: pl.DataFrame, rows: pl.DataFrame) -> pl.Series:
        """Return the rows that have a user, an item and a time, and count the others by reason."""
        usable = pl.Series([True]).new_from_index(0, len(table))
        reasons = (
            ("user_id", self._roles.user, "have no user"),
            ("item_id", self._roles.item, "have no item"),
            (WHEN, self._roles.time or "", "have no time"),
        )
        for name, column, reason in reasons:
            wrong = rows[name].is_null() & usable
            given = table[column].is_not_null() if name == WHEN and column else None
            for mask, words in _by_cause(wrong, given, reason):
                if mask.any():
                    row = int(mask.arg_true()[0])
                    what = f"{column} is {readable(table[column])[row]!r}"
                    self._lose(words, int(mask.sum()), table[ROW][row], what)
            usable &= ~wrong
        return usable

    def _lose(self, reason: str, rows: int, first: int, what: str) -> None:
        """Count rows that cannot be used.

        Args:
            first: value of `ROW` of the first of them.
            what: what it holds.
        """
        count, first, what = self._lost.get(reason, (0, first, what))
        self._lost[reason] = (count + rows, first, what)

    def drops(self) -> list[Drop]:
        """Return the rows that are dropped.

        Raises:
            UserError: they are too many.
        """
        unusable = Unusable()
        self._log.unread(unusable)
        for reason in sorted(self._lost, key=lambda reason: REASONS.get(reason, 0)):
            rows, first, what = self._lost[reason]
            unusable.add(reason, rows, f"{self._log.place(first)}: {what}")
        return unusable.drops(self._total, self._config.max_bad_rows, self._log.name)

    def table(self, are_positions: bool, items: pl.Series | None, name: str) -> pl.DataFrame:
        """Return the rows that can be used.

        Args:
            are_positions: True if the times are positions.
            items: ids of the items file; None without one.
            name: items file, for messages.
        """
        columns = []
        for column in self._parts[0].columns:
            columns.append(pl.concat([part[column] for part in self._parts], rechunk=True))
            self._parts = [part.drop(column) for part in self._parts]
            pa.default_memory_pool().release_unused()  # Arrow would keep what pieces of Parquet took
        kept = pl.DataFrame(columns)
        change: dict[str, Callable[[pl.Series], pl.Series]]
        change = {"user_id": self._users.finished, "item_id": self._items.finished}
        if self._config.ids == "folded":
            forms = self._items.finished(pl.concat(self._forms)).unique(maintain_order=True)
            one = unified(forms, items, name)
            change["item_id"] = lambda texts: self._items.finished(texts).replace_strict(forms, one)
        kept = kept.with_columns(_changed(kept[id_], changed) for id_, changed in change.items())
        if self.clock is None and self._config.newest_first:
            kept = kept.with_columns((self.selected - 1 - pl.col(WHEN)).alias(WHEN))
        return kept.rename({WHEN: "position" if are_positions else "timestamp"})

    def columns(self, note: str) -> list[Column]:
        """Return the columns that were taken, for the account.

        Args:
            note: how the column of items was chosen.
        """
        notes = {
            "users": (self._roles.notes.get("users", ""), self._users.note),
            "items": (note, self._items.note),
        }
        return [
            Column(role, name, *self._values[role].described(), "; ".join(filter(None, notes.get(role, ()))))
            for role, name in self._named().items()
            if name is not None and self._values[role].some
        ]

    def order(self) -> str:
        """Return the order of rows without times, in words."""
        whose = "the lists" if self._is_lists else "the file"
        newest = " from its end" if self._config.newest_first and self.selected > 1 else ""
        return f"none; the order is that of {whose}{newest}"


def _selection(log: Combined, roles: Roles, config: ImportConfig) -> tuple[pl.Expr | None, set[str]]:
    """Return the condition of --where and --min-rating, and the columns that they speak of.

    Raises:
        UserError: the condition cannot be used, or there are no ratings.
    """
    selection, spoken = list[pl.Expr](), set[str]()
    if config.where is not None:
        selection.append(condition(config.where, log.schema))
        spoken |= set(selection[0].meta.root_names())
    if config.min_rating is not None:
        if roles.rating is None or not leaf_type(log.schema[roles.rating]).is_numeric():
            raise UserError(
                f"{log.name} has no column of ratings that is known by its name; it has "
                f'{", ".join(log.columns)}. Leave --min-rating out, or write e.g. --where "stars >= 4".'
            )
        if log.schema[roles.rating].is_nested():
            raise UserError(f"{log.name}: --min-rating does not select from lists of ratings. Leave it out.")
        selection.append(pl.col(roles.rating).fill_nan(None) >= config.min_rating)
        spoken.add(roles.rating)
    return pl.all_horizontal(selection) if selection else None, spoken


def _conditions(config: ImportConfig) -> str:
    given = [f'--where "{config.where}"'] if config.where is not None else []
    return " and ".join(
        given + ([typed("--min-rating", config.min_rating)] if config.min_rating is not None else [])
    )


def _clock(
    log: Combined, roles: Roles, config: ImportConfig, pieces: Callable[[], Iterator[pl.DataFrame]]
) -> Clock | None:
    """Return what reads the times; None without a column of times.

    Raises:
        UserError: an option has no effect.
    """
    if roles.time is not None:
        if config.newest_first:
            raise UserError(
                f"--newest-first has no effect beside the times in column {roles.time}. Leave it out."
            )
        return Clock(log, roles.time, is_position(roles.time), config.time_format, pieces)
    if config.time_format is not None:
        raise UserError("--time-format has no effect without a column of times. Leave it out.")
    return None


def _changed(ids: pl.Series, change: Callable[[pl.Series], pl.Series]) -> pl.Series:
    """Return ids, categories, after a change of their texts."""
    old = ids.unique()
    texts = old.cast(pl.String)
    new = change(texts)
    if new.equals(texts):
        return ids
    codes = np.zeros(int(old.to_physical().max() or 0) + 1, np.int64)  # type: ignore[arg-type]
    codes[old.to_physical().to_numpy()] = np.arange(len(old))
    return as_categories(new).gather(codes[ids.to_physical().to_numpy()])


def _by_cause(wrong: pl.Series, given: pl.Series | None, reason: str) -> list[tuple[pl.Series, str]]:
    """Return rows without a value, and rows whose value is no time."""
    if given is None:
        return [(wrong, reason)]
    return [(wrong & ~given, reason), (wrong & given, "have a time that is none like the others")]
