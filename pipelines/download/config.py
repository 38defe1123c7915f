"""How a data set is read and filtered. Light to import: the command line makes options of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipelines.errors import UserError


@dataclass(frozen=True)
class ImportConfig:
    """Which columns of a person's own files mean what.

    Raises:
        UserError: a negative count.
    """

    user_column: str | None = field(default=None, metadata={"help": "Column of users. [default: found by common names]"})
    item_column: str | None = field(default=None, metadata={"help": "Column of items, in both files. [default: found by common names]"})
    time_column: str | None = field(default=None, metadata={"help": "Column of times or positions. [default: found by common names]"})
    text_columns: str | None = field(
        default=None, metadata={"help": "Columns of the items file that make the text, with commas between. [default: all of text]"}
    )
    min_count: int = field(default=0, metadata={"help": "Drop users and items with fewer interactions, until none is left. [default: 0]"})

    def __post_init__(self) -> None:
        if self.min_count < 0:
            raise UserError(f"--min-count is {self.min_count}; it must be 0 or more.")
