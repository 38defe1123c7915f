"""Files that are replaced whole or not at all, whatever kills the process that writes them.

What is written lies first in a folder `.maskgr-….tmp` beside its place. Its writer holds a lock on that folder (flock), which ends with
the process: such a folder without a lock is a killed command's, and the next command that writes beside it removes it.

One file goes into place by a rename. Files that belong together go in two steps: their folder becomes `.NAME.ready`, by one rename that
makes them count as written, and then each is moved into NAME/. Whoever finds a `.NAME.ready` moves what is left (`settle`), so that a
kill between two moves mixes nothing.
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
    """Yield a temporary path; put what the block writes there in the place of `path` if it succeeds, remove it if not.

    Args:
        failures: what else than an OSError tells that writing failed.

    Raises:
        UserError: it cannot be written.
    """
    with _writing(path, *failures), staging(path.parent) as folder:
        yield folder / path.name
        (folder / path.name).replace(path)


@contextmanager
def together(folder: Path) -> Iterator[Path]:
    """Yield a folder beside `folder`, at the same depth; if the block succeeds, what it wrote there comes into `folder` all at once.

    Other files of `folder` stay.

    Raises:
        UserError: it cannot be written.
    """
    with _writing(folder), staging(folder.parent) as new:
        yield new
        install(new, folder)


def install(new: Path, folder: Path) -> None:
    """Move all that `new` holds into `folder`, beside it, in the place of what is so named there; `settle` makes good a kill halfway."""
    with locked(folder.parent):
        ready = folder.with_name(f".{folder.name}{READY}")
        _move(ready, folder)  # of a killed command
        new.rename(ready)
        _move(ready, folder)


def settle(parent: Path) -> None:
    """Finish what a killed command had begun to move into a folder of `parent`."""
    if not any(parent.glob(f".*{READY}")):
        return
    with locked(parent):
        for ready in parent.glob(f".*{READY}"):
            _move(ready, parent / ready.name[1 : -len(READY)])


@contextmanager
def staging(parent: Path) -> Iterator[Path]:
    """An empty folder in `parent` that is gone after the block, or soon after this process was killed."""
    parent.mkdir(parents=True, exist_ok=True)
    _sweep(parent)
    folder = parent / f"{PREFIX}{os.urandom(4).hex()}{SUFFIX}"
    with locked(folder):
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def locked(folder: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Have a folder, made where it is missing, to oneself; a second process waits until the first ends, however it ends.

    Args:
        waiting: called where another process has it.
    """
    descriptor = _lock(folder, waiting)
    try:
        yield
    finally:
        with suppress(OSError):
            folder.rmdir()  # where nothing came of it
        os.close(descriptor)


def _lock(folder: Path, waiting: Callable[[], None]) -> int:
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # it was removed meanwhile, by who had it: once more
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                if not _is_free(descriptor):
                    waiting()
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
                if os.path.samestat(os.fstat(descriptor), folder.stat()):
                    return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)


def _is_free(descriptor: int) -> bool:
    """Lock a folder if no other process has it; a file system without locks has all free."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def _move(ready: Path, folder: Path) -> None:
    if not ready.exists():
        return
    folder.mkdir(exist_ok=True)
    for path in sorted(ready.iterdir()):
        if path.is_dir():
            shutil.rmtree(folder / path.name, ignore_errors=True)
        path.replace(folder / path.name)
    ready.rmdir()


@functools.cache  # once a process
def _sweep(parent: Path) -> None:
    """Remove what killed commands left in `parent`."""
    for left in parent.glob(f"{PREFIX}*{SUFFIX}"):
        with suppress(OSError):
            descriptor = os.open(left, os.O_RDONLY)
            if _is_free(descriptor):
                shutil.rmtree(left, ignore_errors=True)
            os.close(descriptor)


@contextmanager
def _writing(path: Path, *failures: type[Exception]) -> Iterator[None]:
    """Turn what a full disk or a folder without permission raises into one clear line."""
    try:
        yield
    except (OSError, *failures) as error:
        parent = path.parent.parent if path.parent.name.startswith(PREFIX) else path.parent
        reason = getattr(error, "strerror", None) or (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{path.name} cannot be written in {parent} ({reason}). Free space there, allow writing, or name another --workspace."
        ) from error
