"""Spoilt files: none brings a reader down; what hangs, crashes or fails is counted as a fault; a seed gives the same files."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path
from random import Random

import pytest

from benchmarks.fuzz import __main__ as fuzz
from benchmarks.fuzz import pool, world
from benchmarks.fuzz.counts import Counts
from benchmarks.fuzz.readers import READERS
from pipelines.errors import UserError
from pipelines.progress import Silent
from pipelines.workspace import Workspace
from tests.benchmarks import fakes

ALONE = sorted(name for name, reader in READERS.items() if reader.place is None)
OURS = sorted(set(READERS) - set(ALONE))
TRIED = 12


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return world.make(tmp_path_factory.mktemp("world"))


@pytest.mark.parametrize("name", READERS)
def test_no_spoilt_file_brings_a_reader_down(name: str, made: Workspace, tmp_path: Path) -> None:
    reader = READERS[name]
    path = reader.place(made) if reader.place else tmp_path / reader.file
    valid = path.read_bytes() if reader.place else reader.data()
    path.write_bytes(valid)
    reader.read(made, path)  # the valid one is taken
    try:
        for number in range(TRIED):
            path.write_bytes(reader.mutate(Random(f"test {name} {number}"), valid))
            try:
                reader.read(made, path)
            except UserError as error:
                assert str(error)
    finally:
        path.write_bytes(valid)


def test_a_seed_gives_the_same_files() -> None:
    for name in ALONE:
        reader, valid = READERS[name], READERS[name].data()
        assert valid == reader.data() or name.endswith(".parquet")
        first, again, other = (reader.mutate(Random(seed), valid) for seed in ("1", "1", "2"))
        assert first == again
        assert {first, other} != {valid}


def test_crashes_are_faults_and_not_the_end(tmp_path: Path) -> None:
    (counts,) = pool.run(["fake"], len(fakes.ENDS), 0, 1, tmp_path, Silent(), fakes.__name__)
    assert (counts.tried, counts.refused, counts.accepted) == (5, 1, 2)
    failed, crashed = counts.faults
    assert "KeyError at ?: \"'b'\"" in failed
    assert "ends the process with exit code 9" in crashed
    assert [Path(fault.split(": ")[0]).read_bytes() for fault in counts.faults] == [b"2", b"3"]


def test_a_hang_is_a_fault_and_the_rest_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    silent, _other = multiprocessing.Pipe()
    worker = pool._Worker(
        tmp_path, 0, "", piece=("a reader", range(3, 6)), since=time.monotonic(), ready=True, pipe=silent
    )
    assert worker.outcomes() == []
    begun: list[pool.Piece] = []
    monkeypatch.setattr(worker, "begin", begun.append)
    monkeypatch.setattr(pool, "SECONDS", -1.0)
    assert worker.outcomes() == [("a reader", 3, "hangs for more than -1 seconds")]
    assert begun == [("a reader", range(4, 6))]


def test_any_fault_is_shown_and_is_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    fine, faulty = Counts("fine", 2000, 1500, 500, []), Counts("faulty", 1, 0, 0, ["/tmp/a.json: KeyError"])
    assert (fuzz.show([fine]), fuzz.show([fine, faulty])) == (0, 1)
    assert "faulty: /tmp/a.json: KeyError" in capsys.readouterr().out
