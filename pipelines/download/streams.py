"""Files as blocks of whole lines: plain, compressed by gzip, or members of zip and tar archives.

A block has a bounded size, so files need not fit into memory.
"""

from __future__ import annotations

import gzip
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, cast

from pipelines.errors import UserError, reading
from pipelines.progress import Progress, Task

BLOCK = 1 << 25  # bytes of a block
LONGEST = 1 << 24  # bytes of a line
GZIP = b"\x1f\x8b"  # first bytes of a gzip file
AGAIN = "Remove the file and load it again."


def blocks(path: Path, member: str, progress: Progress) -> Iterator[tuple[int, bytes]]:
    """Yield the blocks of a file, and report the progress of reading it.

    Args:
        path: path of the file.
        member: name of a file in an archive; "" if the file is none.

    Yields:
        Number of the first line, counted from 1, and whole lines.

    Raises:
        UserError: the file cannot be read, lacks the member, is empty, or has a line of `LONGEST` bytes or
            more.
    """
    number, rest, name = 1, b"", place(path, member)
    with _opened(path, member) as (stream, raw), _progress(path, member, progress) as task:
        while True:
            with reading(path, _form(path), AGAIN):
                read = stream.read(BLOCK)
            task.update(raw.tell())
            lines, end, rest = (rest + read).rpartition(b"\n") if read else (b"", b"", rest)
            if len(rest) >= LONGEST:
                line = number + lines.count(b"\n") + len(end)
                raise UserError(f"{name}, line {line} is longer than {LONGEST:,} bytes. {AGAIN}")
            if end:
                yield number, lines + end
                number += lines.count(b"\n") + 1
            if not read:
                break
    if rest:
        yield number, rest
    elif number == 1:
        raise UserError(f"{name} is empty. {AGAIN}")


def place(path: Path, member: str) -> str:
    """Return the name of a file, or of a file in an archive, for messages."""
    return f"{path}: {member}" if member else str(path)


def _form(path: Path) -> str:
    """Return the kind of a file by its name, for messages."""
    return {".zip": "zip archive", ".tar": "tar archive", ".gz": "gzip file"}.get(path.suffix, "file")


def _progress(path: Path, member: str, progress: Progress) -> AbstractContextManager[Task]:
    return progress.task(f"Reading {member or path.name}", path.stat().st_size, "bytes")


@contextmanager
def _opened(path: Path, member: str) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Yield the content of a file without compression, and the file itself, whose position tells progress."""
    with ExitStack() as stack:
        with reading(path, _form(path), AGAIN):
            raw = stack.enter_context(path.open("rb"))
            stream = _content(stack, path, raw, member)
        if stream is None:
            raise UserError(f"{path} has no {member}; it is not the archive it should be. {AGAIN}")
        yield stream, raw


def _content(stack: ExitStack, path: Path, raw: IO[bytes], member: str) -> IO[bytes] | None:
    """Return the content of a file without compression; None if an archive lacks the member."""
    start = raw.read(len(GZIP))
    raw.seek(0)
    if not member:
        packed = start == GZIP or path.suffix == ".gz"
        return cast(IO[bytes], stack.enter_context(gzip.GzipFile(fileobj=raw))) if packed else raw
    if path.suffix == ".zip":
        archive = stack.enter_context(zipfile.ZipFile(raw))
        return stack.enter_context(archive.open(member)) if member in archive.namelist() else None
    tar = stack.enter_context(tarfile.TarFile.open(fileobj=raw))
    entry = next((e for e in tar if e.isfile() and PurePosixPath(e.name).name == member), None)
    return tar.extractfile(entry) if entry else None
