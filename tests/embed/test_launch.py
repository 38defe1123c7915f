"""`--gpus` and `--processes`: several real processes on the CPU, their one error, and Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from maskgr_cli import console, launch
from pipelines import durable
from pipelines.embed.build import build_embeddings
from pipelines.embed.config import EmbedConfig
from pipelines.errors import UserError
from pipelines.workspace import Dataset
from tests.conftest import PATIENCE, ROOT, ListProgress
from tests.embed.conftest import TEXTS, write_items
from tests.embed.test_lsa import read


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `relaunch` sets for torch goes away after each test."""
    for name in (launch.WORKER, launch.USE_CPU, "CUDA_VISIBLE_DEVICES"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_two_processes_make_what_one_makes(
    dataset: Dataset,
    bert: Path,
    progress: ListProgress,
    maskgr: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    run = maskgr("embed", "--encoder", bert, "--processes", 2, "--batch-size", 4, "--name", "two")
    assert run.returncode == 0, run.stderr
    assert run.stderr.count("\n") == 1, run.stderr  # the first process speaks, alone
    assert run.stderr.startswith("Embedded 30 items of toy")
    build_embeddings(dataset, EmbedConfig(encoder=str(bert), name="one"), progress)
    np.testing.assert_allclose(read(dataset, "two"), read(dataset, "one"), atol=1e-6)
    assert not list(dataset.path.glob("embeddings/.*"))


def test_an_error_in_the_processes_comes_out_once(
    dataset: Dataset, maskgr: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    (tmp_path / "hollow").mkdir()
    run = maskgr("embed", "--encoder", tmp_path / "hollow", "--processes", 2)
    assert run.returncode == 2
    assert run.stderr.startswith(f"error: {tmp_path / 'hollow'} holds no model")
    assert run.stderr.count("\n") == 1, run.stderr
    assert not dataset.embeddings("hollow").exists()


def test_ctrl_c_reaches_the_processes(dataset: Dataset, bert: Path, tmp_path: Path) -> None:
    write_items(dataset, TEXTS * 300)
    command = [
        sys.executable,
        "-m",
        "maskgr_cli",
        "embed",
        "--encoder",
        str(bert),
        "--processes",
        "2",
        "--batch-size",
        "1",
    ]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "MASKGR_WORKSPACE": str(dataset.path.parent.parent),
        "TMPDIR": str(tmp_path),
    }
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as run:
        while not list(dataset.path.glob("embeddings/.tiny-bert.parts/*/*.npy")):
            assert run.poll() is None
            time.sleep(0.05)
        workers = psutil.Process(run.pid).children(recursive=True)
        run.send_signal(signal.SIGINT)
        _, errors = run.communicate(timeout=PATIENCE)
    assert run.returncode == 130
    assert "Traceback" not in errors
    assert errors.count("\n") <= 1, errors
    assert not any(worker.is_running() for worker in workers)
    assert 0 < len(list(dataset.path.glob("embeddings/.tiny-bert.parts/*/*.npy"))) < 9000
    assert not list(tmp_path.glob(".maskgr-*"))


def test_processes_end_with_the_one_that_started_them(dataset: Dataset, bert: Path, tmp_path: Path) -> None:
    write_items(dataset, TEXTS * 300)
    command = [
        sys.executable,
        "-m",
        "maskgr_cli",
        "embed",
        "--encoder",
        str(bert),
        "--processes",
        "2",
        "--batch-size",
        "1",
    ]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "MASKGR_WORKSPACE": str(dataset.path.parent.parent),
        "TMPDIR": str(tmp_path),
    }
    with subprocess.Popen(command, cwd=tmp_path, env=environment) as run:
        while not list(dataset.path.glob("embeddings/.tiny-bert.parts/*/*.npy")):
            assert run.poll() is None
            time.sleep(0.05)
        workers = psutil.Process(run.pid).children(recursive=True)
        assert len(workers) == 2
        run.kill()
    gone, alive = psutil.wait_procs(workers, timeout=PATIENCE)
    assert not alive
    assert list(tmp_path.glob(".maskgr-*.tmp"))
    with durable.staging(tmp_path):  # what the next command that starts processes does
        assert len(list(tmp_path.glob(".maskgr-*.tmp"))) == 1


@pytest.mark.parametrize(
    ("count", "cores", "gib", "message"),
    [
        (
            999,
            4,
            64,
            "--processes 999: this machine has 4 cores and 64 GiB of memory; a process takes a core .* Use "
            "4 or fewer",
        ),
        (
            4,
            64,
            1,
            "--processes 4: this machine has 64 cores and 1 GiB of memory; a process takes .* 0.5 GiB or "
            "more. Use 2 or fewer",
        ),
        (3, 1, 64, "--processes 3: this machine has 1 core and"),
        (2, 1, 64, None),
        (4, 4, 64, None),
    ],
)
def test_more_processes_than_the_machine_holds(
    count: int, cores: int, gib: int, message: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(cores), raising=False)
    monkeypatch.setattr(
        os, "sysconf", lambda name: {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": gib * 2**18}[name]
    )
    with pytest.raises(UserError, match=message) if message else nullcontext():
        launch.require_cores("--processes", count)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (0, "--gpus 4: PyTorch sees 0 GPUs on this machine. Run without --gpus to use the CPU."),
        (
            1,
            "--gpus 4: PyTorch sees 1 GPU on this machine. Run with --gpus 1, or without --gpus to use the "
            "CPU.",
        ),
        (
            2,
            "--gpus 4: PyTorch sees 2 GPUs on this machine. Run with --gpus 2, or without --gpus to use the "
            "CPU.",
        ),
    ],
)
def test_too_few_gpus(found: int, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: found)
    with pytest.raises(UserError) as raised:
        launch.relaunch(4, None)
    assert str(raised.value) == message


def test_gpus_and_processes_exclude_each_other() -> None:
    with pytest.raises(UserError, match="--gpus and --processes exclude each other"):
        launch.relaunch(2, 2)


@pytest.mark.parametrize(
    ("gpus", "processes", "visible", "expected"),
    [
        (None, None, "3,5", (None, "3,5")),
        (0, None, "3,5", ("true", "")),
        (None, 1, "3,5", ("true", "")),
        (1, None, "3,5", (None, "3")),
        (1, None, None, (None, "0")),
    ],
)
def test_one_process_stays_here(
    gpus: int | None,
    processes: int | None,
    visible: str | None,
    expected: tuple[str | None, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert launch.relaunch(gpus, processes) is False
    assert (os.environ.get(launch.USE_CPU), os.environ["CUDA_VISIBLE_DEVICES"]) == expected


def test_a_worker_starts_no_more_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(launch.WORKER, "1")
    assert launch.relaunch(None, None) is False
    with pytest.raises(UserError, match="a launcher has started them already. Leave the options out"):
        launch.relaunch(None, 2)
    monkeypatch.setenv(console.WORKER_ERRORS, "folder")  # this program was the launcher
    assert launch.relaunch(None, 2) is False


def test_a_launcher_that_starts_one_process_for_several_is_refused(dataset: Dataset) -> None:
    command = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    command += ["-m", "maskgr_cli", "train"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MASKGR_WORKSPACE": str(dataset.path.parent.parent)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert lines == [
        "error: accelerate launch --cpu started one process where several were requested; without MPI it "
        "cannot start more. Type: maskgr train --processes N …, or: torchrun --nproc-per-node N "
        "-m maskgr_cli train …"
    ]
    assert done.returncode != 0


def test_a_command_of_one_process_is_refused_by_several(
    maskgr: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = maskgr("tune", LOCAL_RANK="0", RANK="0", WORLD_SIZE="2")
    assert done.returncode == 2
    assert done.stderr.startswith("error: maskgr tune runs in one process, and 2 were started.")


def test_what_one_process_does_comes_back_in_one_process() -> None:
    assert launch.by_first(lambda: 7) == 7


def failure(exitcode: int, timestamp: int = 0) -> Any:
    return SimpleNamespace(exitcode=exitcode, timestamp=timestamp)


def test_the_user_error_is_the_one_to_tell(tmp_path: Path) -> None:
    (tmp_path / "0").write_text("connection lost")
    (tmp_path / "1").write_text("item 7 is broken")
    with pytest.raises(UserError, match="item 7 is broken"):
        launch._raise({0: failure(1, 5), 1: failure(2, 6)}, tmp_path, 2)


def test_a_killed_process_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Process 2 of 2 was killed, most likely because the memory"):
        launch._raise({0: failure(1, 6), 1: failure(-9, 5)}, tmp_path, 2)


@pytest.mark.parametrize(
    ("exitcode", "message", "code"),
    [(1, "maskgr failed: ValueError", 1), (-11, "Process 1 of 2 ended with exit code -11.", 139)],
)
def test_other_failures_keep_their_exit_code(
    exitcode: int, message: str, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if exitcode > 0:
        (tmp_path / "0").write_text(message)
    with pytest.raises(SystemExit) as raised:
        launch._raise({0: failure(exitcode)}, tmp_path, 2)
    assert raised.value.code == code
    assert capsys.readouterr().err == f"error: {message}\n"
