"""Options of the preparation that `maskgr download` and `maskgr import` share. Light to import."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipelines.options import SEED, option

COUNT = (0, SEED[1])  # bounds of a count
TIES = option(
    "Order of a user's items of equal time: as in the file, or drawn by --seed. [default: file]",
    choices=("file", "shuffle"),
)
TIES_SEED = option("Seed of --ties shuffle. [default: 0]", *SEED, requires={"ties": ("shuffle",)})


@dataclass(frozen=True)
class Preparation:
    """What is done to the tables of a data set.

    Attributes:
        min_count: k of the k-core filter; 0 for no filter.
        ties: order of a user's items of equal time: "file" or "shuffle".
        seed: seed of the order "shuffle".
        untaken: True if items without an interaction are part of the catalogue.
        update: True if the items of the data set that exists keep their numbers.
    """

    min_count: int = 0
    ties: str = "file"
    seed: int = 0
    untaken: bool = False
    update: bool = False

    def recorded(self) -> dict[str, Any]:
        """Return the values that the provenance of a public data set records."""
        shuffled = {"ties": self.ties, "seed": self.seed} if self.ties != "file" else {}
        return {"min_count": self.min_count} | shuffled
