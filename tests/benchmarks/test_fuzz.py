"""Tests of `benchmarks.fuzz`: no corrupted file causes a fault of a reader, a hang or a crash counts as a
fault, and a seed determines the files.
"""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path
from random import Random

import pytest

from benchmarks.fuzz import __main__ as fuzz
from benchmarks.fuzz import options, pool, world
from benchmarks.fuzz.counts import Counts
from benchmarks.fuzz.readers import READERS
from pipelines.errors import UserError
from pipelines.progress import Silent
from pipelines.workspace import Workspace
from tests.benchmarks import fakes

ALONE = sorted(name for name, reader in READERS.items() if reader.place is None)
TRIED = 12  # corrupted files of each reader


@pytest.fixture(scope="module")
def fuzz_workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return world.make(tmp_path_factory.mktemp("world"))


@pytest.mark.parametrize("name", READERS)
def test_no_corrupted_file_causes_a_fault(name: str, fuzz_workspace: Workspace, tmp_path: Path) -> None:
    reader = READERS[name]
    path = reader.place(fuzz_workspace) if reader.place else tmp_path / reader.file
    valid = path.read_bytes() if reader.place else reader.data()
    path.write_bytes(valid)
    reader.read(fuzz_workspace, path)  # the valid file is accepted
    try:
        for number in range(TRIED):
            path.write_bytes(reader.mutate(Random(f"test {name} {number}"), valid))
            try:
                reader.read(fuzz_workspace, path)
            except UserError as error:
                assert str(error)
    finally:
        path.write_bytes(valid)


def test_a_seed_determines_the_files() -> None:
    for name in ALONE:
        reader, valid = READERS[name], READERS[name].data()
        assert valid == reader.data() or name.endswith(".parquet")
        first, again, other = (reader.mutate(Random(seed), valid) for seed in ("1", "1", "2"))
        assert first == again
        assert {first, other} != {valid}


def test_a_crash_counts_as_a_fault_and_the_rest_is_tried(tmp_path: Path) -> None:
    trials = pool.Trials(len(fakes.OUTCOMES), 0, 1, tmp_path, fakes.__name__)
    (counts,) = pool.run(["fake"], trials, Silent())
    assert (counts.tried, counts.refused, counts.accepted) == (5, 1, 2)
    failed, crashed = counts.faults
    assert "KeyError at ?: \"'b'\"" in failed
    assert "ends the process with exit code 9" in crashed
    assert [Path(fault.split(": ")[0]).read_bytes() for fault in counts.faults] == [b"2", b"3"]


def test_a_hang_counts_as_a_fault_and_the_rest_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent, _other = multiprocessing.Pipe()
    worker = pool.Worker(
        tmp_path, 0, "", chunk=("a reader", range(3, 6)), since=time.monotonic(), ready=True, pipe=silent
    )
    assert worker.outcomes() == []
    assigned: list[pool.Chunk] = []
    monkeypatch.setattr(worker, "assign", assigned.append)
    monkeypatch.setattr(pool, "SECONDS", -1.0)
    assert worker.outcomes() == [("a reader", 3, "hangs for more than -1 seconds")]
    assert assigned == [("a reader", range(4, 6))]


def test_a_fault_is_printed_and_the_exit_code_is_1(capsys: pytest.CaptureFixture[str]) -> None:
    fine, faulty = Counts("fine", 2000, 1500, 500, []), Counts("faulty", 1, 0, 0, ["/tmp/a.json: KeyError"])
    assert (fuzz.show([fine]), fuzz.show([fine, faulty])) == (0, 1)
    assert "faulty: /tmp/a.json: KeyError" in capsys.readouterr().out


def test_options_are_tried_by_their_flags() -> None:
    tried = options.all_options()
    flags = {(option.command, option.flag) for option in tried}
    assert {("tokenize", "--sids"), ("tokenize", "--from"), ("embed", "--from"), ("recommend", "-k")} <= flags
    with options.without_work():
        for option in tried:
            _, text = options.outcome(*options.arguments(option, "1"))
            assert "No such option" not in text, option
