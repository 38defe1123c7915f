"""Options of the preparation that `maskgr download` and `maskgr import` share. Light to import."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from pipelines.errors import UserError
from pipelines.formats import LEAVE_ONE_OUT, TEMPORAL
from pipelines.options import SEED, option, quoted

COUNT = (0, SEED[1])  # bounds of a count
TIES = option(
    "Order of a user's items of equal time: as in the file, or drawn by --seed. [default: file]",
    choices=("file", "shuffle"),
)
TIES_SEED = option("Seed of --ties shuffle. [default: 0]", *SEED, requires={"ties": ("shuffle",)})
SPLIT = option(
    "Held out: each user's last item for the test and the one before for validation, or all interactions "
    "from a time on. [default: leave-one-out]",
    choices=(LEAVE_ONE_OUT, TEMPORAL),
)
FROM = {"validation": "0.8", "test": "0.9"}  # period of a temporal split → default of its begin
VALIDATION_FROM, TEST_FROM = (
    option(
        f"Time from which interactions are held out for {period}: a quantile of all times, or a date or time "
        f"(UTC). [default: {default}]",
        requires={"split": (TEMPORAL,)},
    )
    for period, default in FROM.items()
)


def moment(flag: str, text: str) -> float | datetime:
    """Read where a period begins: a quantile of the times, or a date or time (UTC unless it says otherwise).

    Raises:
        UserError: it is neither.
    """
    try:
        share = float(text)
    except ValueError:
        try:
            instant = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
            return instant if instant.tzinfo else instant.replace(tzinfo=timezone.utc)
        except ValueError:
            share = math.nan
    if 0 < share < 1:
        return share
    raise UserError(
        f"{flag} {quoted(text)} is neither a quantile between 0 and 1, such as 0.8, nor a date or time, such "
        "as 2024-05-31 or 2024-05-31T18:00."
    )


@dataclass(frozen=True)
class Preparation:
    """What is done to the tables of a data set.

    Attributes:
        min_count: k of the k-core filter; 0 for no filter.
        ties: order of a user's items of equal time: "file" or "shuffle".
        seed: seed of the order "shuffle".
        untaken: True if items without an interaction are part of the catalogue.
        update: True if the items of the data set that exists keep their numbers.
        split: "leave-one-out" or "temporal".
        validation_from, test_from: where the periods of a temporal split begin; see `moment`.

    Raises:
        UserError: a begin of a temporal split is neither a quantile nor a time.
    """

    min_count: int = 0
    ties: str = "file"
    seed: int = 0
    untaken: bool = False
    update: bool = False
    split: str = LEAVE_ONE_OUT
    validation_from: str = FROM["validation"]
    test_from: str = FROM["test"]

    def __post_init__(self) -> None:
        for period, text in self.begins.items():
            moment(f"--{period}-from", text)

    @property
    def begins(self) -> dict[str, str]:
        """Where the periods of a temporal split begin, as given; empty for leave-one-out."""
        given = {"validation": self.validation_from, "test": self.test_from}
        return given if self.split == TEMPORAL else {}

    def recorded(self) -> dict[str, Any]:
        """Return the values that the provenance of a public data set records."""
        shuffled = {"ties": self.ties, "seed": self.seed} if self.ties != "file" else {}
        begins = {f"{period}_from": text for period, text in self.begins.items()}
        return {"min_count": self.min_count} | shuffled | ({"split": self.split} | begins if begins else {})
