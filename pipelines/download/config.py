"""Configuration of `maskgr download`. Light to import, because the command line makes options of it."""

from __future__ import annotations

import urllib.parse
from dataclasses import dataclass, field

from pipelines.errors import UserError
from pipelines.formats import LEAVE_ONE_OUT
from pipelines.options import check, option, quoted
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


@dataclass(frozen=True)
class DownloadConfig:
    """Origin of the files of a public data set, and its filter.

    Attributes:
        mirror: web address of a folder that is tried first for every file.
        local: folder or archive that is read instead of the web.
        min_count: k of the k-core filter.
        ties: order of a user's items of equal time.
        seed: seed of the order "shuffle".
        split, validation_from, test_from: see `Preparation`.

    Raises:
        UserError: a value is not allowed, both a mirror and local files are given, or the mirror is not a web
            address.
    """

    mirror: str | None = field(
        default=None, metadata=option("Web address of a folder to try first for every file.")
    )
    local: str | None = field(
        default=None,
        metadata=option(
            "Read the files from this folder, or this archive, instead.", path=True, flag="--from"
        ),
    )
    min_count: int = field(
        default=5,
        metadata=option(
            "Drop users and items with fewer interactions, until no such user or item is left. [default: 5]",
            *COUNT,
        ),
    )
    ties: str = field(default="file", metadata=TIES)
    seed: int = field(default=0, metadata=TIES_SEED)
    split: str = field(default=LEAVE_ONE_OUT, metadata=SPLIT)
    validation_from: str = field(default=FROM["validation"], metadata=VALIDATION_FROM)
    test_from: str = field(default=FROM["test"], metadata=TEST_FROM)

    @property
    def preparation(self) -> Preparation:
        """What is done to the tables of the data set."""
        split = {name: getattr(self, name) for name in ("split", "validation_from", "test_from")}
        return Preparation(self.min_count, self.ties, self.seed, **split)

    def __post_init__(self) -> None:
        check(self)
        _ = self.preparation  # checks the begins of a temporal split
        if self.mirror and self.local:
            raise UserError("--mirror and --from exclude each other: --from reads files already on disk.")
        if self.mirror is not None and not _is_web_address(self.mirror):
            raise UserError(
                f"--mirror {quoted(self.mirror)} is not a web address; write e.g. https://example.org/folder."
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
    except ValueError:  # invalid brackets or port
        return False
