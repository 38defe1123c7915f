"""Files that are replaced completely or not at all, even if the process that writes them is killed.

New content is first written to a staging folder `.maskgr-….tmp` beside its destination. The writer holds a
lock (flock) on the staging folder, which ends with the process. A staging folder without a lock therefore
belongs to a killed command, and the next command that writes in the same place removes it.

A single file is moved to its destination by one rename. Files that belong together are moved in two steps:
their staging folder is renamed to `.NAME.ready`, from which moment they count as written, and then each file
is moved into NAME/. If a kill interrupts the second step, the next command finds `.NAME.ready` and finishes
the move (`finish_installs`). Old and new files are therefore never mixed.
"""

from __future__ import annotations

import fcntl
import functools
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipelines.errors import UserError

PREFIX, SUFFIX, READY = ".maskgr-", ".tmp", ".ready"


@contextmanager
def atomic(path: Path, *failures: type[Exception]) -> Iterator[Path]:
    """Yield a temporary path for the new content of `path`.

    If the block succeeds, the file written there replaces `path`; otherwise it is removed.

    Args:
        failures: exceptions besides OSError that mean that writing failed.

    Raises:
        UserError: the file cannot be written.
    """
    with _explained(path, *failures), staging(path.parent) as folder:
        yield folder / path.name
        (folder / path.name).replace(path)


@contextmanager
def together(folder: Path) -> Iterator[Path]:
    """Yield a staging folder beside `folder`, at the same depth, for files that belong together.

    If the block succeeds, the files written there are moved into `folder`, all or none. Other files in
    `folder` stay.

    Raises:
        UserError: the files cannot be written.
    """
    with _explained(folder), staging(folder.parent) as new:
        yield new
        install(new, folder)


def install(new: Path, folder: Path) -> None:
    """Move everything in the folder `new` into `folder` beside it, replacing files of the same names.

    If the process is killed in between, `finish_installs` completes the move.
    """
    with locked(folder.parent):
        ready = folder.with_name(f".{folder.name}{READY}")
        _move(ready, folder)  # left by a killed command
        new.rename(ready)
        _move(ready, folder)


def finish_installs(parent: Path) -> None:
    """Complete the moves into folders of `parent` that killed commands had begun, see `install`."""
    if not any(parent.glob(f".*{READY}")):
        return
    with locked(parent):
        for ready in parent.glob(f".*{READY}"):
            _move(ready, parent / ready.name[1 : -len(READY)])


@contextmanager
def staging(parent: Path) -> Iterator[Path]:
    """Yield a new empty folder in `parent`.

    The folder is removed after the block. If this process is killed, the next command that writes in `parent`
    removes it.
    """
    parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(parent)
    folder = parent / f"{PREFIX}{os.urandom(4).hex()}{SUFFIX}"
    with locked(folder):
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def locked(folder: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold an exclusive lock on a folder, which is created if it is missing.

    A second process waits until the first one leaves the block or ends in any way. The folder is removed
    after the block if it is empty.

    Args:
        waiting: function that is called if another process holds the lock.
    """
    descriptor = _lock(folder, waiting)
    try:
        yield
    finally:
        with suppress(OSError):  # the folder is not empty
            folder.rmdir()
        os.close(descriptor)


def _lock(folder: Path, waiting: Callable[[], None]) -> int:
    """Return an open descriptor of the folder that holds its lock."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # the previous holder removed the folder: try again
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                if not _try_lock(descriptor):
                    waiting()
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
                if os.path.samestat(os.fstat(descriptor), folder.stat()):
                    return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    """Lock a folder and return True, unless another process holds its lock.

    On a file system without locks this always succeeds.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def _move(ready: Path, folder: Path) -> None:
    """Move everything in `ready` into `folder` and remove `ready`, if it exists."""
    if not ready.exists():
        return
    folder.mkdir(exist_ok=True)
    for path in sorted(ready.iterdir()):
        if path.is_dir():
            shutil.rmtree(folder / path.name, ignore_errors=True)
        path.replace(folder / path.name)
    ready.rmdir()


@functools.cache  # once per process
def _remove_abandoned(parent: Path) -> None:
    """Remove the staging folders of killed commands in `parent`."""
    for folder in parent.glob(f"{PREFIX}*{SUFFIX}"):
        with suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY)
            if _try_lock(descriptor):
                shutil.rmtree(folder, ignore_errors=True)
            os.close(descriptor)


@contextmanager
def _explained(path: Path, *failures: type[Exception]) -> Iterator[None]:
    """Turn an error of writing, e.g. a full disk or a missing permission, into a UserError of one line."""
    expected: tuple[type[Exception], ...] = (OSError, *failures)
    try:
        yield
    except expected as error:
        parent = path.parent.parent if path.parent.name.startswith(PREFIX) else path.parent
        lines = (str(error) or type(error).__name__).splitlines()
        reason = getattr(error, "strerror", None) or lines[0]
        raise UserError(
            f"{path.name} cannot be written in {parent} ({reason}). "
            "Free space there, allow writing, or name another folder."
        ) from error
