"""How a public data set is fetched and filtered. Light to import: the command line makes options of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pipelines.errors import UserError


@dataclass(frozen=True)
class DownloadConfig:
    """Where the files come from and which users and items are kept.

    Raises:
        UserError: a negative count, a mirror that is no web address, or both a folder and a mirror.
    """

    min_count: int = field(
        default=5, metadata={"help": "Drop users and items with fewer interactions, until none is left. [default: 5, as the paper]"}
    )
    source: Path | None = field(default=None, metadata={"help": "Files already on disk: the folder that holds them, or the archive."})
    mirror: str | None = field(default=None, metadata={"help": "Web address of a folder that holds the files; it is asked first."})

    def __post_init__(self) -> None:
        if self.min_count < 0:
            raise UserError(f"--min-count is {self.min_count}; it must be 0 or more.")
        if self.mirror is not None and not self.mirror.startswith(("http://", "https://")):
            raise UserError(f"--mirror {self.mirror!r} is no web address; it must begin with http:// or https://. Use --from for a folder.")
        if self.mirror is not None and self.source is not None:
            raise UserError("--from and --mirror exclude each other. Give one of them.")
