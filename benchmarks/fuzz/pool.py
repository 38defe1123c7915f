"""A pool of processes that try corrupted files, so that a file that hangs or crashes a process counts as a
fault and does not end the program.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import resource
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from random import Random

from benchmarks.fuzz.counts import Counts
from pipelines.progress import Progress, Task

SOURCE = "benchmarks.fuzz.readers"
SECONDS = 20.0  # a file that takes longer counts as a hang
START = 120.0  # additional seconds for the start of a process and of its workspace
MEMORY = 12 << 30  # bytes of address space of a process
CHUNK = 100  # number of files that a process receives at a time
READY, REFUSED, ACCEPTED = "ready", "refused", "accepted"
Chunk = tuple[str, range]  # name of a reader and numbers of its corrupted files


@dataclass(frozen=True)
class Trials:
    """Settings of the trials.

    Attributes:
        count: number of corrupted files of each reader.
        seed: seed of the mutations.
        jobs: number of processes at a time.
        keep: folder for the files that cause a fault.
        source: name of the module of the readers.
    """

    count: int
    seed: int
    jobs: int
    keep: Path
    source: str = SOURCE


def run(names: list[str], trials: Trials, progress: Progress) -> list[Counts]:
    """Try corrupted files for each reader.

    Args:
        names: names of the readers.
        trials: settings.
        progress: where progress is reported.
    """
    counts = {name: Counts(name, 0, 0, 0, []) for name in names}
    chunks = [
        (name, range(start, min(trials.count, start + CHUNK)))
        for name in names
        for start in range(0, trials.count, CHUNK)
    ]
    with tempfile.TemporaryDirectory(prefix="maskgr-fuzz-") as folder:
        workers = [
            Worker(Path(folder) / str(number), trials.seed, trials.source) for number in range(trials.jobs)
        ]
        try:
            with progress.task("Trying", len(names) * trials.count, "files") as task:
                while chunks or any(worker.chunk for worker in workers):
                    _round(workers, chunks, counts, trials.keep, task)
        finally:
            for worker in workers:
                worker.stop()
    return list(counts.values())


def _round(
    workers: list[Worker], chunks: list[Chunk], counts: dict[str, Counts], keep: Path, task: Task
) -> None:
    """Assign chunks to idle workers, wait a moment, and count the outcomes."""
    for worker in workers:
        if worker.chunk is None and chunks:
            worker.assign(chunks.pop(0))
    wait([worker.pipe for worker in workers if worker.chunk and worker.pipe], timeout=1)
    for worker in workers:
        for name, number, outcome in worker.outcomes():
            _count(counts[name], number, outcome, _input_path(worker.folder, number), keep)
            task.advance()
        if worker.chunk and not worker.chunk[1]:
            worker.chunk = None


def _input_path(folder: Path, number: int) -> Path:
    """Return the path of a corrupted file before it is read; it stays there after a fault."""
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
class Worker:
    """A process and its current chunk.

    Attributes:
        folder: folder for its files.
        seed: seed of the mutations.
        source: name of the module of the readers.
        chunk: current chunk, without the files that are done; None if idle.
        since: time.monotonic() of the last outcome, or START later for the first outcome of a chunk.
        ready: true after the process has made the valid file of the chunk.
        pipe: connection to the process; None before the first chunk.
        process: the process; None before the first chunk and after `stop`.
    """

    folder: Path
    seed: int
    source: str
    chunk: Chunk | None = None
    since: float = 0.0
    ready: bool = False
    pipe: Connection | None = None
    process: SpawnProcess | None = None

    def assign(self, chunk: Chunk) -> None:
        """Send a chunk to the process, which is started if there is none."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.process is None:
            context = multiprocessing.get_context("spawn")  # the libraries' threads do not survive a fork
            self.pipe, other = context.Pipe()
            arguments = (other, self.folder, self.seed, self.source)
            self.process = context.Process(target=_work, args=arguments, daemon=True)
            self.process.start()
            other.close()
        assert self.pipe
        self.chunk, self.since, self.ready = chunk, time.monotonic() + START, False
        self.pipe.send(chunk)

    def outcomes(self) -> list[tuple[str, int, str]]:
        """Return the outcomes since the last call: name of the reader, number of the file, outcome.

        A hang or a crash is the outcome of its file; the rest of the chunk goes to a new process.

        Raises:
            RuntimeError: the process cannot make the valid file.
        """
        outcomes = []
        while self.chunk and self.chunk[1]:
            name, numbers = self.chunk
            outcome = self._next_outcome()
            if outcome is None:
                break
            if outcome == READY:
                self.ready = True
                continue
            if not self.ready:
                raise RuntimeError(
                    f"The valid file of {name} cannot be made; the process {outcome}. "
                    f"See {self.folder / 'stderr'}."
                )
            outcomes.append((name, numbers[0], outcome))
            self.chunk = name, numbers[1:]
            if outcome.startswith(("hangs", "ends")):
                self.stop()
                if numbers[1:]:
                    self.assign(self.chunk)
                break
        return outcomes

    def _next_outcome(self) -> str | None:
        """Return the next message of the process, or a hang or a crash; None if there is nothing yet."""
        assert self.pipe
        try:
            if self.pipe.poll():
                outcome: str = self.pipe.recv()
                self.since = time.monotonic()
                return outcome
        except (EOFError, ConnectionError):
            assert self.process
            self.process.join()
            return f"ends the process with exit code {self.process.exitcode}"
        if time.monotonic() - self.since > SECONDS:
            return f"hangs for more than {SECONDS:g} seconds"
        return None

    def stop(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.join()
            if self.pipe:
                self.pipe.close()
            self.process = None


def _work(pipe: Connection, folder: Path, seed: int, source: str) -> None:
    """Try the files of all chunks that arrive, and send an outcome for each file."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    from benchmarks.fuzz import world

    readers = importlib.import_module(source).READERS
    errors = open(folder / "stderr", "wb")  # noqa: SIM115 - open as long as the process runs
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
            corrupted = reader.mutate(Random(f"{seed} {name} {number}"), valid)
            copy = _input_path(folder, number)
            copy.write_bytes(corrupted)
            path.write_bytes(corrupted)
            outcome = _outcome(lambda: reader.read(workspace, path), folder / "stderr")  # noqa: B023 - called at once
            if outcome in (REFUSED, ACCEPTED):
                copy.unlink()
            pipe.send(outcome)
        path.write_bytes(valid)


def _outcome(read: Callable[[], object], stderr: Path) -> str:
    """Read a file, and return REFUSED, ACCEPTED or a description of the fault."""
    from pipelines.errors import UserError

    printed = stderr.stat().st_size
    try:
        read()
        outcome = ACCEPTED
    except UserError:
        outcome = REFUSED
    except BaseException as error:
        frames = traceback.extract_tb(error.__traceback__)
        places = [f"{Path(f.filename).name}:{f.lineno}" for f in frames if "pipelines" in f.filename]
        return f"{type(error).__name__} at {places[-1] if places else '?'}: {str(error)[:200]!r}"
    if stderr.stat().st_size > printed:
        return f"{outcome}, but a library printed {stderr.read_bytes()[printed:][:200]!r}"
    return outcome
