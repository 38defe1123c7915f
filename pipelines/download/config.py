"""How a data set is read and filtered. Light to import: the command line makes options of it."""

from __future__ import annotations

import urllib.parse
from dataclasses import dataclass, field

from pipelines.errors import UserError
from pipelines.options import SEED, check, option, shown

COUNT = (0, SEED[1])


@dataclass(frozen=True)
class ImportConfig:
    """Which columns of a person's own files mean what.

    Raises:
        UserError: a negative count.
    """

    user_column: str | None = field(
        default=None, metadata=option("Column of users. [default: found by common names]")
    )
    item_column: str | None = field(
        default=None,
        metadata=option(
            "Column of items; in the items file a common name serves too. [default: found by common names]"
        ),
    )
    time_column: str | None = field(
        default=None, metadata=option("Column of times or positions. [default: found by common names]")
    )
    text_columns: str | None = field(
        default=None,
        metadata=option(
            "Columns of the items file that make the text, with commas between. [default: all of text]"
        ),
    )
    min_count: int = field(
        default=0,
        metadata=option(
            "Drop users and items with fewer interactions, until none is left. [default: 0]", *COUNT
        ),
    )

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class DownloadConfig:
    """Where the files of a public data set come from, and how it is filtered.

    Raises:
        UserError: a negative count, both a mirror and local files, a mirror that is no web address.
    """

    mirror: str | None = field(
        default=None, metadata=option("Web address of a folder to try first for every file.")
    )
    local: str | None = field(
        default=None,
        metadata=option(
            "Take the files from this folder, or this archive, instead.", path=True, flag="--from"
        ),
    )
    min_count: int = field(
        default=5,
        metadata=option(
            "Drop users and items with fewer interactions, until none is left. [default: 5]", *COUNT
        ),
    )

    def __post_init__(self) -> None:
        check(self)
        if self.mirror and self.local:
            raise UserError("--mirror and --from exclude each other: --from reads files already on disk.")
        if self.mirror is not None and not _is_web_address(self.mirror):
            raise UserError(
                f"--mirror {shown(self.mirror)} is not a web address; write e.g. https://example.org/folder."
            )


def _is_web_address(text: str) -> bool:
    try:
        parts = urllib.parse.urlsplit(text)
        return (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and parts.port != 0
            and text.isprintable()
            and " " not in text
        )
    except ValueError:  # brackets or a port that mean nothing
        return False
