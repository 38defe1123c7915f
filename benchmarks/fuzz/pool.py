"""Tries spoilt files in processes of their own, so that one that hangs or crashes is a fault and not the end."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import resource
import shutil
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.fuzz.counts import Counts
from pipelines.progress import Progress, Task

SOURCE = "benchmarks.fuzz.readers"
SECONDS = 20.0  # a file that takes longer hangs
START = 120.0  # more, for a process to begin and to make a world
MEMORY = 12 << 30  # bytes of address space of a process
PIECE = 100  # files that a process is given at a time
READY, REFUSED, ACCEPTED = "ready", "refused", "accepted"
Piece = tuple[str, range]  # a reader's name and the numbers of its spoilt files


def run(
    names: list[str], count: int, seed: int, jobs: int, keep: Path, progress: Progress, source: str = SOURCE
) -> list[Counts]:
    """Try `count` spoilt files for each reader.

    Args:
        jobs: processes at a time.
        keep: folder for the files that brought something down.
        source: module of the readers.
    """
    found = {name: Counts(name, 0, 0, 0, []) for name in names}
    pieces = [
        (name, range(start, min(count, start + PIECE))) for name in names for start in range(0, count, PIECE)
    ]
    with tempfile.TemporaryDirectory(prefix="maskgr-fuzz-") as folder:
        workers = [_Worker(Path(folder) / str(number), seed, source) for number in range(jobs)]
        try:
            with progress.task("Trying", len(names) * count, "files") as task:
                while pieces or any(worker.piece for worker in workers):
                    _round(workers, pieces, found, keep, task)
        finally:
            for worker in workers:
                worker.stop()
    return list(found.values())


def _round(
    workers: list[_Worker], pieces: list[Piece], found: dict[str, Counts], keep: Path, task: Task
) -> None:
    """Give work to who has none, wait a moment, and count what was done."""
    for worker in workers:
        if worker.piece is None and pieces:
            worker.run_layers(pieces.pop(0))
    wait([worker.pipe for worker in workers if worker.piece], timeout=1)
    for worker in workers:
        for name, number, outcome in worker.outcomes():
            _count(found[name], number, outcome, _input(worker.folder, number), keep)
            task.advance()
        if worker.piece and not worker.piece[1]:
            worker.piece = None


def _input(folder: Path, number: int) -> Path:
    """A spoilt file as it was given; it stays where it made a fault."""
    return folder / f"input-{number}"


def _count(counts: Counts, number: int, outcome: str, file: Path, keep: Path) -> None:
    counts.tried += 1
    counts.refused += outcome == REFUSED
    counts.accepted += outcome == ACCEPTED
    if outcome not in (REFUSED, ACCEPTED):
        keep.mkdir(parents=True, exist_ok=True)
        kept = keep / f"{counts.name.replace(' ', '-')}-{number}"
        if file.exists():
            shutil.move(file, kept)
        counts.faults.append(f"{kept}: {outcome}")


@dataclass
class _Worker:
    """A process and the piece of work it has."""

    folder: Path
    seed: int
    source: str
    piece: Piece | None = None
    since: float = 0.0
    ready: bool = False
    pipe: Connection | None = None
    process: Any = field(default=None)

    def run_layers(self, piece: Piece) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.process is None:
            context = multiprocessing.get_context("spawn")  # a fork would take the libraries' threads away
            self.pipe, other = context.Pipe()
            self.process = context.Process(
                target=_work, args=(other, self.folder, self.seed, self.source), daemon=True
            )
            self.process.start()
            other.close()
        self.piece, self.since, self.ready = piece, time.monotonic() + START, False
        self.pipe.send(piece)

    def outcomes(self) -> list[tuple[str, int, str]]:
        """What it has done since it was asked last; a hang or a crash is its file's outcome, and the rest goes to a new process."""
        found = []
        while self.piece and self.piece[1]:
            name, numbers = self.piece
            try:
                if self.pipe.poll():
                    outcome = self.pipe.recv()
                    self.since = time.monotonic()
                    if outcome == READY:
                        self.ready = True
                        continue
                elif time.monotonic() - self.since > SECONDS:
                    outcome = f"hangs for more than {SECONDS:g} seconds"
                else:
                    break
            except (EOFError, ConnectionError):
                self.process.join()
                outcome = f"ends the process with exit code {self.process.exitcode}"
            if not self.ready:
                raise RuntimeError(
                    f"The valid file of {name} cannot be made; the process {outcome}. See {self.folder / 'stderr'}."
                )
            found.append((name, numbers[0], outcome))
            self.piece = name, numbers[1:]
            if outcome.startswith(("hangs", "ends")):
                self.stop()
                if numbers[1:]:
                    self.run_layers(self.piece)
                break
        return found

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.pipe.close()
            self.process = None


def _work(pipe: Connection, folder: Path, seed: int, source: str) -> None:
    """What a process does: the pieces it is given, an outcome for each file."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    from benchmarks.fuzz import world

    readers = importlib.import_module(source).READERS
    errors = open(folder / "stderr", "wb")  # noqa: SIM115 - as long as the process
    os.dup2(errors.fileno(), 2)
    workspace = None
    while True:
        name, numbers = pipe.recv()
        reader = readers[name]
        if reader.place:
            workspace = workspace or world.make(Path(tempfile.mkdtemp(dir=folder)))
            path = reader.place(workspace)
            valid = path.read_bytes()
        else:
            path, valid = Path(tempfile.mkdtemp(dir=folder)) / reader.file, reader.data()
        pipe.send(READY)
        for number in numbers:
            spoilt = reader.mutate(Random(f"{seed} {name} {number}"), valid)
            given = _input(folder, number)
            given.write_bytes(spoilt)
            path.write_bytes(spoilt)
            outcome = _outcome(lambda: reader.read(workspace, path), folder / "stderr")  # noqa: B023 - called at once
            if outcome in (REFUSED, ACCEPTED):
                given.unlink()
            pipe.send(outcome)
        path.write_bytes(valid)


def _outcome(read: Any, stderr: Path) -> str:
    """Whether a file is refused in a line, accepted, or brings something down."""
    from pipelines.errors import UserError

    printed = stderr.stat().st_size
    try:
        read()
        outcome = ACCEPTED
    except UserError:
        outcome = REFUSED
    except BaseException as error:
        last = traceback.extract_tb(error.__traceback__)
        places = [
            f"{Path(frame.filename).name}:{frame.lineno}" for frame in last if "pipelines" in frame.filename
        ] or ["?"]
        return f"{type(error).__name__} at {places[-1]}: {str(error)[:200]!r}"
    if stderr.stat().st_size > printed:
        return f"{outcome}, but a library printed {stderr.read_bytes()[printed:][:200]!r}"
    return outcome
