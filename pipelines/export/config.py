"""Configuration of `maskgr data export`. Light to import: the command line makes options of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipelines.options import check, option

FORMATS = ("csv", "recbole", "sequences", "dictionary")
WITH_SPLIT = ("csv", "recbole")  # formats of which each split can be a file


@dataclass(frozen=True)
class ExportConfig:
    """Format of an export and what belongs to it.

    Raises:
        UserError: a value is unknown, or an option has no effect on the format.
    """

    format: str = field(
        default="csv",
        metadata=option(
            "Format: csv, recbole (atomic files), sequences (a line for each user), or dictionary (JSON, as "
            "LC-Rec reads it). [default: csv]",
            choices=FORMATS,
        ),
    )
    split: bool = field(
        default=False,
        metadata=option(
            "Write the interactions for training, validation and testing to a file each.",
            requires={"format": WITH_SPLIT},
        ),
    )
    semantic_ids: str | None = field(
        default=None,
        metadata=option(
            "Write these semantic IDs too, as tokens <a_12>. [default: none]",
            requires={"format": ("dictionary",)},
        ),
    )

    def __post_init__(self) -> None:
        check(self)
