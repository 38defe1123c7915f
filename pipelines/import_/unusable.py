"""Rows that cannot be used: counted by reason, with the first of each."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipelines.errors import UserError
from pipelines.prepare.account import Drop


@dataclass
class Unusable:
    """Rows that cannot be used.

    Attributes:
        counts: reason → number of rows.
        firsts: reason → place and value of the first row.
    """

    counts: dict[str, int] = field(default_factory=dict)
    firsts: dict[str, str] = field(default_factory=dict)

    def add(self, reason: str, rows: int, first: str) -> None:
        """Count rows.

        Args:
            reason: a clause about the rows: "have no time".
            first: place and value of the first of them.
        """
        if rows:
            self.counts[reason] = self.counts.get(reason, 0) + rows
            self.firsts.setdefault(reason, first)

    def drops(self, total: int, largest: float, name: str) -> list[Drop]:
        """Return the rows that are dropped.

        Args:
            total: number of all rows.
            largest: largest share of them that may be dropped.
            name: the files in words, for the message.

        Raises:
            UserError: they are more.
        """
        drops = [Drop(reason, rows, self.firsts[reason]) for reason, rows in self.counts.items()]
        count = sum(self.counts.values())
        if count > largest * total:
            reasons = "; ".join(f"{d.rows:,} {d.reason}, first {d.first}" for d in drops)
            share = -(-count * 1000 // total) / 1000  # rounded up
            raise UserError(
                f"{name}: {count:,} of {total:,} rows cannot be used: {reasons}. Mend them, or drop them "
                f"with --max-bad-rows {share:g}."
            )
        return drops
