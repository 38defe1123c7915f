"""Temporal split: a data set whose log is cut by two times, where validation and test begin.

Interactions before the first time train, those from it to the second validate, later ones test. In each of
these two periods a user has one target: the first interaction of the period. Users without a training
interaction, and targets that are items without one, are left out. The columns `COLUMNS` of sequences.parquet
hold this for each user; a file without them has a leave-one-out split.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines import artifacts
from pipelines.errors import UserError
from pipelines.formats import SplitConfig

PERIODS = ("validation", "test")
# Columns of sequences.parquet, for each period: number of the user's items before it, and true if the next
# item is a target.
COLUMNS = {
    **{f"{period}_begin": pa.int32() for period in PERIODS},
    **{f"{period}_target": pa.bool_() for period in PERIODS},
}
SCALES = (  # smallest number of a unit of times since 1970, units per second, name
    (1e17, 1e9, "nanoseconds since 1970"),
    (1e14, 1e6, "microseconds since 1970"),
    (1e11, 1e3, "milliseconds since 1970"),
    (1e8, 1.0, "seconds since 1970"),
)
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class TemporalSplit:
    """Temporal split of a data set.

    Attributes:
        validation_from: time of the first interactions that validate, as the data set has times.
        test_from: time of the first interactions that test.
        per_second: units of these times per second; 0 for numbers that are no times since 1970.
        counts: for each period, by name: "interactions"; "users" with an interaction in it; of these "new"
            ones without a training interaction, those whose target is "untrained", an item without a training
            interaction, and those with a target that is measured ("targets"). Empty in a run's record.
    """

    validation_from: float
    test_from: float
    per_second: float
    counts: dict[str, dict[str, int]] = field(default_factory=dict)

    @staticmethod
    def of(path: Path) -> TemporalSplit | None:
        """Return the split that a file of sequences records; None for leave-one-out."""
        recorded = artifacts.provenance(path)
        account = recorded.get("account", {}) if recorded else {}
        return TemporalSplit(**account["split"]) if "split" in account else None

    def recorded(self) -> SplitConfig:
        """Return what the config.json of a run records."""
        return SplitConfig(
            validation_from=self.validation_from, test_from=self.test_from, per_second=self.per_second
        )

    @property
    def name(self) -> str:
        """Kind of the split and times at which the periods begin, in words."""
        return f"temporal ({', '.join(self.begins.values())})"

    @property
    def begins(self) -> dict[str, str]:
        """Times at which the periods begin, in words."""
        times = zip(PERIODS, (self.validation_from, self.test_from), strict=True)
        return {period: shown(time, self.per_second) for period, time in times}

    def line(self, period: str) -> str:
        """Return what a period holds and what is left out of it, in one sentence."""
        found = self.counts[period]
        return (
            f"Temporal split, {period} from {self.begins[period]}: {found['interactions']:,} interactions of "
            f"{found['users']:,} users, {found['targets']:,} targets. Left out: {found['new']:,} users "
            f"without a training interaction, {found['untrained']:,} whose target has none."
        )

    def measured(self, period: str, name: str) -> str:
        """Return `line` of a period that has a target.

        Args:
            period: the period.
            name: name of the data set, for messages.

        Raises:
            UserError: it has none. A data set that had some may have lost them to `maskgr data forget`.
        """
        if not self.counts[period]["targets"]:
            raise UserError(f"{name} has nothing to measure. {self.line(period)} Choose other times.")
        return self.line(period)

    def lines(self) -> list[str]:
        """Return `line` of both periods."""
        return [self.line(period) for period in PERIODS]


def left_out_of(split: SplitConfig | None) -> str:
    """Return what a training left out, in words.

    Args:
        split: split that the run records; None for leave-one-out.
    """
    if split is None:
        return "the last two items of every user"
    return f"all interactions from {TemporalSplit(**split).begins['validation']} on"


def holds_out_more(now: TemporalSplit | None, before: TemporalSplit | None) -> bool:
    """Return True if a split may hold out interactions that another split of the same users trained on.

    Args:
        now, before: the two splits; None for leave-one-out.
    """
    if now is None or before is None:
        return (now is None) != (before is None)
    return now.validation_from < before.validation_from


def count(parts: Iterable[pa.Table]) -> dict[str, dict[str, int]]:
    """Count what the periods of a temporal split hold; see `TemporalSplit.counts`.

    Args:
        parts: parts of sequences.parquet, with `COLUMNS`.
    """
    names = ("interactions", "users", "new", "untrained", "targets")
    counts = {period: dict.fromkeys(names, 0) for period in PERIODS}
    for part in parts:
        begins = [part[f"{period}_begin"].to_numpy() for period in PERIODS]
        ends = [begins[1], pc.list_value_length(part["items"]).to_numpy()]
        for period, begin, end in zip(PERIODS, begins, ends, strict=True):
            has_one, is_new = begin < end, begins[0] == 0
            is_target = part[f"{period}_target"].to_numpy()
            rows = (has_one, has_one & is_new, has_one & ~is_new & ~is_target, is_target)
            found = {"interactions": int((end - begin).sum())}
            found |= {name: int(row.sum()) for name, row in zip(names[1:], rows, strict=True)}
            counts[period] = {name: counts[period][name] + found[name] for name in names}
    return counts


def columns(
    begins: Sequence[np.ndarray], items: np.ndarray, starts: np.ndarray, is_trained: np.ndarray
) -> dict[str, pa.Array]:
    """Return the columns `COLUMNS` of some users.

    Args:
        begins: for each period, number of each user's items before it, int64 [users].
        items: numbers of their items, one user after the other, [n].
        starts: place of each user's first item, and n at the end, int64 [users + 1].
        is_trained: true for items with a training interaction, bool [I].
    """
    is_known = np.append(is_trained[items], False)  # [n + 1]
    values = [*begins]
    for begin, end in zip(begins, (begins[1], np.diff(starts)), strict=True):
        values.append((begins[0] > 0) & (begin < end) & is_known[starts[:-1] + begin])
    return {name: pa.array(value, kind) for (name, kind), value in zip(COLUMNS.items(), values, strict=True)}


def bounds(path: Path, table: pa.Table, lengths: np.ndarray, first: int = 0) -> np.ndarray:
    """Return the bounds of the users of a temporal split: the number of training items, the place of the
    target of the validation and that of the test, −1 for none; int64 [rows, 3].

    Args:
        path: file of the sequences, for messages.
        table: `COLUMNS` of its rows.
        lengths: number of items of each row, int64 [rows].
        first: number of the first row, for messages.

    Raises:
        UserError: the columns do not fit the lists.
    """
    missing = {name: -1 if kind == pa.int32() else False for name, kind in COLUMNS.items()}
    values = [pc.fill_null(table[name], value).to_numpy() for name, value in missing.items()]
    validation, test = (begin.astype(np.int64) for begin in values[:2])
    validates, tests = values[2:]
    fits = (validation >= 0) & (validation <= test) & (test <= lengths)
    fits &= ~validates | ((validation > 0) & (validation < test))
    fits &= ~tests | ((validation > 0) & (test < lengths))
    if not fits.all():
        raise UserError(
            f"{path}: the columns {', '.join(COLUMNS)} do not fit the items of row "
            f"{first + int(np.argmin(fits))}. Import or download the data set again."
        )
    return np.stack([validation, np.where(validates, validation, -1), np.where(tests, test, -1)], axis=1)


def is_temporal(names: Iterable[str]) -> bool:
    """Return True if a file of sequences with columns of these names has a temporal split."""
    return COLUMNS.keys() <= {*names}


def units_per_second(times: np.ndarray) -> float:
    """Return the units per second of times since 1970, told by their size; 0 for other numbers."""
    largest = float(np.abs(times).max(initial=0))
    return next((per_second for low, per_second, _ in SCALES if largest >= low), 0.0)


def shown(value: Any, per_second: float) -> str:
    """Return a time in words.

    Args:
        per_second: units of the value per second; 0 for numbers that are no times since 1970.
    """
    if not isinstance(value, (int, float)) or not per_second:
        return str(value)
    try:
        instant = EPOCH + timedelta(seconds=value / per_second)
    except (OverflowError, ValueError):  # beyond the calendar
        return str(value)
    return f"{instant:%Y-%m-%d %H:%M:%S}"
