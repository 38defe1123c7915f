"""Files that are replaced completely or not at all, even if the process that writes them is killed.

New content is first written to a staging folder `.maskgr-….tmp` beside its destination. The writer holds a
lock (flock) on the staging folder, which ends with the process. A staging folder without a lock therefore
belongs to a killed command, and the next command that writes in the same place removes it.

A single file is moved to its destination by one rename. Files that belong together are moved in two steps:
their staging folder is renamed to `.NAME.ready`, from which moment they count as written, and then each file
is moved into NAME/. If a kill interrupts the second step, the next command finds `.NAME.ready` and finishes
the move (`finish_installs`). Old and new files are therefore never mixed.

Changes in several places of a folder (`changes`) are described in a staging folder with all new files, which
is renamed to `.changes.ready`. From then on they count as made, and the next command finishes them
(`finish_changes`). Each step can be repeated.
"""

from __future__ import annotations

import fcntl
import functools
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipelines.errors import UserError

PREFIX, SUFFIX, READY, INTO = ".maskgr-", ".tmp", ".ready", ".into"
REPLACED = ".replaced"
CHANGES, LIST = ".changes.ready", "changes.json"


@contextmanager
def atomic(path: Path, *failures: type[Exception]) -> Iterator[Path]:
    """Yield a temporary path for the new content of `path`.

    If the block succeeds, the file written there replaces `path`; otherwise it is removed.

    Args:
        failures: exceptions besides OSError that mean that writing failed.

    Raises:
        UserError: the file cannot be written.
    """
    with explained(path, *failures), staging(path.parent) as folder:
        yield folder / path.name
        (folder / path.name).replace(path)


@contextmanager
def together(folder: Path) -> Iterator[Path]:
    """Yield a staging folder beside `folder`, at the same depth, for files that belong together.

    If the block succeeds, the files written there are moved into `folder`, all or none. Other files in
    `folder` stay. A folder written there replaces the folder of its name, except that of `inside`.

    Raises:
        UserError: the files cannot be written.
    """
    with explained(folder), staging(folder.parent) as new:
        yield new
        install(new, folder)


@contextmanager
def whole(folder: Path, check: Callable[[], None] = lambda: None) -> Iterator[Path]:
    """Yield a staging folder for everything that `folder` is to hold.

    If the block succeeds, it becomes `folder`, and what was there before is removed. A process that is killed
    between the two renames leaves the old content in `.NAME.replaced`, which the next one removes.

    Args:
        check: function that raises an exception if `folder` may not be replaced. It is called before the
            block, and again after it, when no other process can change the folder.

    Raises:
        UserError: the files cannot be written.
    """
    check()
    with explained(folder), staging(folder.parent) as new:
        yield new
        with locked(folder.parent):
            check()
            old = folder.with_name(f".{folder.name}{REPLACED}")
            if folder.exists():
                shutil.rmtree(old, ignore_errors=True)
                folder.rename(old)
            new.rename(folder)
            shutil.rmtree(old, ignore_errors=True)


def inside(new: Path, name: str) -> Path:
    """Return the folder of a staging folder whose files are moved into the folder `name` of the destination.

    Other files in that folder stay.
    """
    return new / f"{name}{INTO}"


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


class Changes:
    """Changes below a folder: paths that are renamed, and then files that are replaced."""

    def __init__(self, root: Path, folder: Path) -> None:
        """
        Args:
            root: folder of the changes.
            folder: staging folder of the new files.
        """
        self.root, self.folder = root, folder
        self.renamed: list[tuple[str, str]] = []
        self.replaced: list[str] = []

    def rename(self, old: Path, new: Path) -> None:
        """Rename `old` to `new`, if it exists."""
        self.renamed.append((str(old.relative_to(self.root)), str(new.relative_to(self.root))))

    def replace(self, path: Path) -> Path:
        """Return the path at which the new content of `path` is to be written; `path` is as after renaming.

        The time of the new file's last modification is kept.
        """
        self.replaced.append(str(path.relative_to(self.root)))
        return self.folder / str(len(self.replaced) - 1)


@contextmanager
def changes(root: Path) -> Iterator[Changes]:
    """Yield an empty list of changes below `root`. If the block succeeds, they are made, all or none.

    Raises:
        UserError: a file cannot be written.
    """
    with explained(root / LIST), staging(root) as folder:
        made = Changes(root, folder)
        yield made
        text = json.dumps({"renamed": made.renamed, "replaced": made.replaced})
        (folder / LIST).write_text(text, encoding="utf-8")
        with locked(root):
            _make_changes(root)  # left by a killed command
            folder.rename(root / CHANGES)
            _make_changes(root)


def finish_changes(root: Path) -> None:
    """Make the changes below `root` that a killed command had begun, see `changes`."""
    if (root / CHANGES).exists():
        with locked(root):
            _make_changes(root)


def _make_changes(root: Path) -> None:
    """Make the changes in `root`/CHANGES, if there are any, and remove that folder."""
    folder = root / CHANGES
    if not folder.exists():
        return
    made = json.loads((folder / LIST).read_text(encoding="utf-8"))
    for old, new in made["renamed"]:
        if (root / old).exists():
            (root / new).parent.mkdir(parents=True, exist_ok=True)
            (root / old).rename(root / new)
    for number, path in enumerate(made["replaced"]):
        with atomic(root / path) as temporary:
            shutil.copy2(folder / str(number), temporary)
    discarded = root / f"{PREFIX}{os.urandom(4).hex()}{SUFFIX}"
    folder.rename(discarded)
    shutil.rmtree(discarded, ignore_errors=True)


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


@contextmanager
def claimed(path: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold an exclusive lock on a file of its own, also against other machines that share its folder.

    The lock ends with the process, however it ends. Linux passes it on to an NFS server, which it does not
    with the lock of a folder, because a file can be open for writing (flock(2), "NFS details").

    Args:
        path: file that exists while the lock is held; a killed process leaves it, without its lock.
        waiting: function that is called if another process holds the lock.
    """
    descriptor = _lock(path, waiting, is_file=True)
    try:
        yield
    finally:
        with suppress(OSError):  # the folder is gone
            path.unlink()
        os.close(descriptor)


def is_claimed(path: Path) -> bool:
    """Return True if a process, of this machine or another, holds the lock of a file; see `claimed`."""
    return _is_locked(path, os.O_RDWR)


def _lock(path: Path, waiting: Callable[[], None], is_file: bool = False) -> int:
    """Return an open descriptor of a file or folder that holds its lock."""
    while True:
        (path.parent if is_file else path).mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # the previous holder removed it: try again
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT if is_file else os.O_RDONLY, 0o666)
            try:
                if not _try_lock(descriptor):
                    waiting()
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)


def is_locked(folder: Path) -> bool:
    """Return True if a process holds the lock of a folder; False if there is no such folder."""
    return _is_locked(folder, os.O_RDONLY)


def _is_locked(path: Path, mode: int) -> bool:
    try:
        descriptor = os.open(path, mode)
    except OSError:
        return False
    try:
        return not _try_lock(descriptor)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    """Lock a file or folder and return True, unless another process holds its lock.

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
        if path.suffix == INTO:
            _move(path, folder / path.stem)
            continue
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
def explained(path: Path, *failures: type[Exception]) -> Iterator[None]:
    """Turn an error of writing, e.g. a full disk or a missing permission, into a UserError of one line.

    An error that names a file elsewhere passes unchanged.

    Args:
        path: the file, or the folder.
        failures: exceptions besides OSError that mean that writing failed.
    """
    expected: tuple[type[Exception], ...] = (OSError, *failures)
    try:
        yield
    except expected as error:
        parent = path.parent.parent if path.parent.name.startswith(PREFIX) else path.parent
        if _is_elsewhere(error, parent):  # a file that the block reads
            raise
        lines = (str(error) or type(error).__name__).splitlines()
        reason = getattr(error, "strerror", None) or lines[0]
        raise UserError(
            f"{path.name} cannot be written in {parent} ({reason}). "
            "Free space there, allow writing, or name another folder."
        ) from error


def _is_elsewhere(error: Exception, parent: Path) -> bool:
    """Return True if an error names a file that is not below the folder `parent`."""
    name = getattr(error, "filename", None)
    return isinstance(name, (str, os.PathLike)) and parent.absolute() not in Path(name).absolute().parents
