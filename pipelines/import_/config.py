"""Configuration of `maskgr import`. Light to import, because the command line makes options of it."""

from __future__ import annotations

import codecs
import dataclasses
from dataclasses import dataclass, field
from typing import Any

from pipelines.errors import UserError
from pipelines.formats import LEAVE_ONE_OUT
from pipelines.options import SHARE, check, option, quoted
from pipelines.prepare.config import (
    COUNT,
    FROM,
    SPLIT,
    TEST_FROM,
    TIES,
    TIES_SEED,
    VALIDATION_FROM,
    Preparation,
)

NONE = "none"  # value of --time-column that takes the order of the file
RATING = (-1e9, 1e9)  # bounds of a rating
IDS = ("exact", "folded")
# Settings with an effect on sequences of another program, which are taken as they are.
LISTED = ("user_column", "item_column", "text_columns", "max_bad_rows", "encoding")


@dataclass(frozen=True)
class ImportConfig:
    """Columns of the user's own files, and the filters of the data set.

    Attributes:
        user_column: column of users; None for the first known name.
        item_column: column of items; None for a known name, of several that whose ids are in the items file.
        time_column: column of times or positions; None for the first known name; `NONE` for the order of the
            file.
        time_format: form of the times as `strptime` has it; None finds it.
        columns: names of the columns of interactions without a header, separated by commas; None if the files
            have headers.
        text_columns: columns of the items file that make the text, separated by commas; None for all columns
            of text.
        where: condition on the columns of the interactions (room `where`); None for all rows.
        min_rating: smallest rating that counts as an interaction; None for any.
        min_count: k of the k-core filter.
        max_bad_rows: largest share of rows that may be dropped because they cannot be used.
        ids: "exact" compares ids as they are written, "folded" without case, blanks and leading zeros.
        encoding: Python's name of the encoding of text files; None finds it.
        newest_first: True if the newest item of a user comes first in files without times.
        untaken: True if items without an interaction are part of the catalogue.
        update: True if the items of the data set that exists keep their numbers.
        ties: order of a user's items of equal time.
        seed: seed of the order "shuffle".
        split, validation_from, test_from: see `Preparation`.

    Raises:
        UserError: a value is not allowed.
    """

    user_column: str | None = field(
        default=None, metadata=option("Column of users. [default: found by common names]")
    )
    item_column: str | None = field(
        default=None,
        metadata=option(
            "Column of items; the items file may use a common name instead. [default: found by common names "
            "and by the ids of the items file]"
        ),
    )
    time_column: str | None = field(
        default=None,
        metadata=option(
            "Column of times or positions; none: the order of the file. [default: found by common names]"
        ),
    )
    time_format: str | None = field(
        default=None, metadata=option('Form of the times, e.g. "%d-%m-%Y %H:%M". [default: found]')
    )
    columns: str | None = field(
        default=None,
        metadata=option(
            "Names of the columns of interactions without a header, e.g. item,user,rating,time. [default: "
            "the header]"
        ),
    )
    text_columns: str | None = field(
        default=None,
        metadata=option(
            "Columns of the items file that make the text, separated by commas. [default: "
            "all columns of text]"
        ),
    )
    where: str | None = field(
        default=None,
        metadata=option('Condition that interactions satisfy, e.g. "label = 1". [default: none]'),
    )
    min_rating: float | None = field(
        default=None, metadata=option("Smallest rating of an interaction. [default: none]", *RATING)
    )
    min_count: int = field(
        default=0,
        metadata=option(
            "Drop users and items with fewer interactions, until no such user or item is left. [default: 0]",
            *COUNT,
        ),
    )
    max_bad_rows: float = field(
        default=0.01,
        metadata=option(
            "Largest share of rows that are dropped because they cannot be used. [default: 0.01]", *SHARE
        ),
    )
    ids: str = field(
        default="exact",
        metadata=option(
            "Comparison of item ids: as they are written, or without case, blanks and leading zeros. "
            "[default: exact]",
            choices=IDS,
        ),
    )
    encoding: str | None = field(
        default=None, metadata=option("Encoding of text files, e.g. gb18030. [default: found]")
    )
    newest_first: bool = field(
        default=False,
        metadata=option("In files without times, the newest item of a user comes first. [default: last]"),
    )
    untaken: bool = field(
        default=False,
        metadata=option("Keep items that nobody took in the catalogue. [default: no]"),
    )
    update: bool = field(
        default=False,
        metadata=option("Keep the items of the data set and their numbers; new items follow. [default: no]"),
    )
    ties: str = field(default="file", metadata=TIES)
    seed: int = field(default=0, metadata=TIES_SEED)
    split: str = field(default=LEAVE_ONE_OUT, metadata=SPLIT)
    validation_from: str = field(default=FROM["validation"], metadata=VALIDATION_FROM)
    test_from: str = field(default=FROM["test"], metadata=TEST_FROM)

    @property
    def preparation(self) -> Preparation:
        """What is done to the tables of the data set."""
        order = (self.min_count, self.ties, self.seed, self.untaken, self.update)
        return Preparation(*order, self.split, self.validation_from, self.test_from)

    def recorded(self) -> dict[str, Any]:
        """Return the values that the provenance records."""
        values = dataclasses.asdict(self)
        split = {name: values.pop(name) for name in ("split", "validation_from", "test_from")}
        return values | (split if self.preparation.begins else {})

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of the columns of interactions without a header; empty if they are not given."""
        return tuple(name.strip() for name in self.columns.split(",")) if self.columns else ()

    def __post_init__(self) -> None:
        check(self)
        _ = self.preparation  # checks the begins of a temporal split
        names = self.column_names
        if len(set(names)) < len(names) or not all(names):
            raise UserError(f"--columns {quoted(self.columns)} must be distinct names separated by commas.")
        if self.encoding is not None and not _is_encoding(self.encoding):
            raise UserError(
                f"--encoding {quoted(self.encoding)} is unknown; write e.g. utf-8, cp1252, gb18030 or utf-16."
            )


def _is_encoding(name: str) -> bool:
    try:
        return bool(codecs.lookup(name)._is_text_encoding)
    except (LookupError, ValueError):  # ValueError: a NUL
        return False
