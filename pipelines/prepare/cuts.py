"""Cut of a log by two times, from which interactions are held out for validation and for test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.errors import UserError
from pipelines.prepare.coded import Coded, count_rows
from pipelines.prepare.config import moment
from pipelines.temporal import EPOCH, PERIODS, TemporalSplit, columns, count, holds_out_more, units_per_second


@dataclass(frozen=True, eq=False)
class Cuts:
    """Times that cut the log of a data set.

    Attributes:
        times: of the first interactions of the validation, and of those of the test.
        per_second: units of these times per second; 0 for numbers that are no times since 1970.
        is_trained: true for the codes of items with a training interaction, bool [I].
    """

    times: tuple[Any, Any]
    per_second: float
    is_trained: np.ndarray

    @staticmethod
    def of(log: Coded, kept: np.ndarray, begins: Mapping[str, str], name: str) -> Cuts:
        """Find the times.

        A quantile q stands for the time of the interaction that follows the first q of all. As interactions
        of that time belong to the later period, at most this share lies before it.

        Args:
            log: interactions in file order.
            kept: true for the rows that make the sequences, bool [N].
            begins: period → quantile or time.
            name: name of the data set, for messages.

        Raises:
            UserError: the data set has no times, or a period no interaction.
        """
        if log.when != "timestamp":
            raise UserError(
                f"--split temporal cuts by time, and the interactions of {name} have no times, only an "
                "order. Import interactions with times, or leave --split out."
            )
        when = log.table[log.when].to_numpy()[kept]  # [n]
        per_second = units_per_second(when)
        validation, test = (_time(when, begins[period], per_second, period, name) for period in PERIODS)
        before = when < validation, when < test
        parts = {
            f"before --validation-from {begins['validation']}": before[0],
            f"between --validation-from {begins['validation']} and --test-from {begins['test']}": before[1]
            & ~before[0],
            f"from --test-from {begins['test']} on": ~before[1],
        }
        for words, rows in parts.items():
            if not rows.any():
                raise UserError(f"--split temporal: {name} has no interaction {words}. Choose other times.")
        trained = kept.copy()
        trained[kept] = before[0]
        return Cuts((validation, test), per_second, count_rows(log.item, trained) > 0)

    def columns(self, item: np.ndarray, when: np.ndarray, starts: np.ndarray) -> dict[str, pa.Array]:
        """Return the columns `COLUMNS` of some users.

        Args:
            item, when: codes and times of their interactions, in the order of the sequences, [n].
            starts: first interaction of each user, and n at the end, int64 [users + 1].
        """
        begins = [np.add.reduceat((when < time).astype(np.int64), starts[:-1]) for time in self.times]
        return columns(begins, item, starts, self.is_trained)

    def split(self, parts: list[pa.Table], name: str) -> TemporalSplit:
        """Return the split of the sequences.

        Args:
            parts: parts of the sequences, with `COLUMNS`.
            name: name of the data set, for messages.

        Raises:
            UserError: no user has a target in one of the periods.
        """
        validation, test = (np.asarray(time).item() for time in self.times)
        split = TemporalSplit(validation, test, self.per_second, count(parts))
        for period in PERIODS:
            split.measured(period, name)
        return split


def refuse_earlier(split: TemporalSplit | None, before: TemporalSplit | None, name: str) -> None:
    """Refuse a split that holds out what the split of before trained on.

    Raises:
        UserError: it does.
    """
    if holds_out_more(split, before):
        held = f"from {before.begins['validation']} on" if before else "of each user's last two items"
        raise UserError(
            f"{name} exists and holds out the interactions {held}; what was made from it has seen others "
            "that this split holds out. Import it under another name, or rename or remove the other (maskgr "
            f"rename, maskgr rm datasets/{name})."
        )


def _time(when: np.ndarray, begin: str, per_second: float, period: str, name: str) -> Any:
    """Return the time at which a period begins.

    Args:
        when: times of all interactions, [n].
        begin: quantile or time.
        per_second: units of the times per second; 0 for numbers that are no times since 1970.
        period, name: period and data set, for messages.
    """
    given = moment(f"--{period}-from", begin)
    if isinstance(given, datetime):
        if not per_second:
            raise UserError(
                f"--{period}-from {begin} is a date, and the times of {name} are too small for times since "
                "1970. Give a quantile, such as 0.8."
            )
        return (given - EPOCH).total_seconds() * per_second
    place = int(given * len(when))
    return np.partition(when, place)[place]
