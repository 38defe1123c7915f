"""Options of external lists. Light to import: the command line makes options of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pipelines.errors import UserError
from pipelines.names import checked_name, is_name
from pipelines.options import GIVEN, check, option

OF_LISTS = {"recommendations": GIVEN}  # requirement of the other options


@dataclass(frozen=True)
class ExternalConfig:
    """File of external lists, and the data set that it belongs to.

    Raises:
        UserError: an option has no effect without a file, or the name cannot be a name.
    """

    recommendations: str | None = field(
        default=None,
        metadata=option(
            "Measure the lists in this file, made by another program: CSV, JSON Lines or Parquet with users, "
            "items, and ranks or scores. With runs, compare both.",
            path=True,
        ),
    )
    dataset: str | None = field(
        default=None,
        metadata=option(
            "Data set of --recommendations. [default: that of the runs, else the one last downloaded or "
            "imported]",
            requires=OF_LISTS,
        ),
    )
    label: str | None = field(
        default=None,
        metadata=option(
            "Name of the result of --recommendations. [default: the name of the file]",
            flag="--name",
            requires=OF_LISTS,
        ),
    )

    def __post_init__(self) -> None:
        check(self)
        if self.label is not None:
            checked_name(self.label)

    @property
    def result(self) -> str:
        """Name of the result.

        Raises:
            UserError: the name of the file cannot be a name.
        """
        if self.label is not None:
            return self.label
        stem = Path(self.recommendations or "").name.split(".")[0]
        if not is_name(stem):
            raise UserError(
                f"The name of {self.recommendations} cannot be the name of a result. Give one with --name."
            )
        return stem
