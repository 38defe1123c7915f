"""Account of how a data set was made: what was read, taken, dropped and filtered."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, NamedTuple

MOST_FILES = 3  # files that the short account lists
TIED = 0.5  # share of users whose last two items have equal times, above which a warning is due


@dataclass(frozen=True)
class Column:
    """A column that was taken.

    Attributes:
        role: what it holds: "users", "items", "times", "texts".
        name: its name in the file.
        type: its type.
        values: its first three values.
        note: how it was chosen or converted; "" if there is nothing to say.
    """

    role: str
    name: str
    type: str
    values: list[str]
    note: str = ""


@dataclass(frozen=True)
class Drop:
    """Rows that cannot be used.

    Attributes:
        reason: the reason, a clause about the rows: "have no time".
        rows: their number.
        first: place and value of the first of them.
    """

    reason: str
    rows: int
    first: str


class Step(NamedTuple):
    """A filter, and what it leaves.

    Attributes:
        name: name of the filter, or "rows that can be used" before the first.
    """

    name: str
    interactions: int
    users: int
    items: int


@dataclass
class Account:
    """Account of a data set, filled step by step.

    Attributes:
        files: path and format of each file.
        columns: columns that were taken.
        times: form and range of the times; "" if there are none.
        dropped: rows that were dropped because they cannot be used.
        steps: filters in their order.
        notes: choices that the user may want to change.
        tied_pairs: number of neighbors in a user's sequence that have equal times.
        tied_last: share of users whose last two items have equal times.
        order: order of items of equal time, a clause.
    """

    files: list[tuple[str, str]] = field(default_factory=list)
    columns: list[Column] = field(default_factory=list)
    times: str = ""
    dropped: list[Drop] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    tied_pairs: int = 0
    tied_last: float = 0.0
    order: str = ""

    def values(self) -> dict[str, Any]:
        """Return the account as JSON values, for the provenance."""
        return dataclasses.asdict(self) | {"steps": [step._asdict() for step in self.steps]}

    def short(self) -> list[str]:
        """Return what every command reports, one sentence a line."""
        lines = [f"{path}: {form}." for path, form in self.files[:MOST_FILES]]
        if len(self.files) > MOST_FILES:
            lines.append(f"… and {len(self.files) - MOST_FILES:,} more files.")
        if self.columns:
            roles = [f"{c.role}: {c.name}{f' ({c.note})' if c.note else ''}" for c in self.columns]
            lines.append(f"Columns of {'; '.join(roles)}.")
        if self.times:
            lines.append(f"Times: {self.times}.")
        return [*lines, *self._dropped(), *self._filtered(), *self.notes, *self._tied()]

    def full(self) -> list[str]:
        """Return the whole account."""
        lines = ["Files", *(f"  {path}: {form}" for path, form in self.files), "Columns"]
        for column in self.columns:
            note = f" ({column.note})" if column.note else ""
            shown = ", ".join(column.values)
            lines.append(f"  {column.role}: {column.name}, {column.type}{note}: {shown}")
        lines += [f"Times: {self.times or 'none'}", *self._dropped()]
        lines.append("Filters")
        for step in self.steps:
            counts = f"{step.interactions:,} interactions, {step.users:,} users, {step.items:,} items"
            lines.append(f"  {step.name}: {counts}")
        return [*lines, *self.notes, *self._tied()]

    def _dropped(self) -> list[str]:
        return [
            f"Dropped {drop.rows:,} rows that {drop.reason}, first {drop.first}." for drop in self.dropped
        ]

    def _filtered(self) -> list[str]:
        """Return a line for each filter that changed something."""
        lines = []
        for before, after in zip(self.steps, self.steps[1:], strict=False):
            if before[1:] != after[1:]:
                lines.append(
                    f"{after.name}: {before.interactions:,} → {after.interactions:,} interactions, "
                    f"{before.users:,} → {after.users:,} users, {before.items:,} → {after.items:,} items."
                )
        return lines

    def _tied(self) -> list[str]:
        if not self.order:
            return []
        lines = [
            f"Equal times: {self.tied_pairs:,} pairs of neighbors, and the last two items of "
            f"{self.tied_last:.1%} of the users; {self.order}."
        ]
        if self.tied_last > TIED:
            of_file = "--time-column none takes the order of the file, " if self.columns else ""
            lines.append(
                "Warning: the times do not order the last items of most users, so that test items are "
                f"arbitrary: {of_file}--ties shuffle draws an order."
            )
        return lines
