"""Parts of a workspace that running commands work on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import NoReturn

from pipelines.durable import PREFIX, SUFFIX, is_locked, locked
from pipelines.errors import UserError
from pipelines.housekeeping.parts import DOWNLOAD, RUN, STUDY, Part
from pipelines.workspace import Workspace

LOCKED = {
    RUN: "training",
    STUDY: "search",
    DOWNLOAD: "download",
}  # kind whose folder a command locks → its work
WORK = (f"{PREFIX}*{SUFFIX}", ".*.parts")  # folders that a command locks while it writes beside them


@contextmanager
def unused(workspace: Workspace, parts: Sequence[Part]) -> Iterator[None]:
    """Hold the locks of parts, so that no command trains, searches or downloads them meanwhile.

    Raises:
        UserError: a running command works on one of them.
    """
    with ExitStack() as stack:
        for part in parts:
            if part.kind in LOCKED:
                stack.enter_context(locked(part.path, partial(refuse, part.name, LOCKED[part.kind])))
            for folder in working(part.path):
                refuse(part.name, f"command that writes {folder}")
        if any(part.name.startswith("datasets/") for part in parts):
            for folder in starting(workspace):
                refuse(f"runs/{folder.name}", "training that begins")
        yield


def working(path: Path) -> list[Path]:
    """Return the folders below a path, or beside a file, in which a running command writes."""
    if path.is_dir():
        return [folder for pattern in WORK for folder in path.rglob(pattern) if is_locked(folder)]
    parts = path.with_name(f".{path.stem}.parts")
    return [parts] if is_locked(parts) else []


def starting(workspace: Workspace) -> list[Path]:
    """Return the folders of runs whose training has begun and has not recorded its data set yet."""
    folders = (workspace.root / "runs").glob("[!.]*")
    return [folder for folder in folders if not (folder / "config.json").exists() and is_locked(folder)]


def refuse(name: str, work: str) -> NoReturn:
    """Refuse to change a part.

    Raises:
        UserError: in any case.
    """
    raise UserError(
        f"{name} is in use by a {work}. Wait until it ends, or stop it with Ctrl-C, which saves its state."
    )
