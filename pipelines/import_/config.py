"""Configuration of `maskgr import`. Light to import, because the command line makes options of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipelines.options import check, option
from pipelines.prepare.config import COUNT


@dataclass(frozen=True)
class ImportConfig:
    """Columns of the user's own files, and the filter of the data set.

    Attributes:
        user_column: column of users; None for the first known name.
        item_column: column of items; None for the first known name.
        time_column: column of times or positions; None for the first known name.
        text_columns: columns of the items file that make the text, separated by commas; None for all columns
            of text.
        min_count: k of the k-core filter.

    Raises:
        UserError: the count is negative.
    """

    user_column: str | None = field(
        default=None, metadata=option("Column of users. [default: found by common names]")
    )
    item_column: str | None = field(
        default=None,
        metadata=option(
            "Column of items; the items file may use a common name instead. [default: found by common names]"
        ),
    )
    time_column: str | None = field(
        default=None, metadata=option("Column of times or positions. [default: found by common names]")
    )
    text_columns: str | None = field(
        default=None,
        metadata=option(
            "Columns of the items file that make the text, separated by commas. [default: "
            "all columns of text]"
        ),
    )
    min_count: int = field(
        default=0,
        metadata=option(
            "Drop users and items with fewer interactions, until no such user or item is left. [default: 0]",
            *COUNT,
        ),
    )

    def __post_init__(self) -> None:
        check(self)
