"""Facts and problems that a diagnosis reports."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fact:
    """One fact.

    Attributes:
        name: name of the fact.
        value: text or number; None if it is not known.
        unit: "bytes" for sizes, else empty.
    """

    name: str
    value: str | int | None
    unit: str = ""


@dataclass(frozen=True)
class Problem:
    """One problem.

    Attributes:
        kind: "broken" (something does not work), "stale", "unfinished", "left over" or "advice".
        subject: part of the workspace, package or setting.
        reason: clause that says what is wrong.
        command: command that mends it.
    """

    kind: str
    subject: str
    reason: str
    command: str


BROKEN, STALE, UNFINISHED, LEFT_OVER, ADVICE = "broken", "stale", "unfinished", "left over", "advice"
