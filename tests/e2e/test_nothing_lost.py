"""What a user's machine does to commands: odd paths, files that vanish, disks that are full or read-only, and
two commands at once in one workspace.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.torture_checks import find_fault, leftovers
from benchmarks.torture_stages import write_files
from pipelines.workspace import Workspace
from tests.conftest import PATIENCE, ROOT

Maskgr = Callable[..., subprocess.CompletedProcess[str]]
ODD = "a folder's data – 推薦 ü"
# Commands, one after the other in one process, which loads the modules once.
COMMANDS = """
import json, sys
from maskgr_cli import app

for command in json.loads(sys.argv[1]):
    sys.argv = ["maskgr", *command]
    try:
        app.main()
    except SystemExit as end:
        print("exit code", end.code, file=sys.stderr, flush=True)
        if end.code:
            break
"""


def run_all(folder: Path, commands: list[list[object]]) -> subprocess.CompletedProcess[str]:
    """Run commands in a folder whose subfolder `data` is the workspace."""
    line = [sys.executable, "-c", COMMANDS, json.dumps([[str(word) for word in line] for line in commands])]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", "MASKGR_WORKSPACE": "data"}
    return subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of source files, with blanks and letters of several languages in its path."""
    path = tmp_path / ODD
    path.mkdir()
    write_files(path)
    return path


IMPORT = ["import", "toy", "--interactions", "one.csv", "--items", "items.csv"]
SMOKE = ["train", "--preset", "smoke", "--sids", 2, "--codebook", 16, "--steps", 8, "--name", "r"]


def test_a_path_with_blanks_and_letters_of_any_language(folder: Path) -> None:
    """All commands and a server, with paths of the same kind for what they write."""
    commands: list[list[object]] = [
        IMPORT,
        ["embed"],
        ["tokenize", "--sids", 2, "--codebook", 16],
        SMOKE,
        ["eval", "--beams", 5],
        ["recommend", "--user", "u1", "-k", 3, "--output", "für u1.json"],
        ["recommend", "--all-users", "-k", 3, "--output", "所有 users.parquet"],
        ["show"],
        ["export", "--output", "das Bündel"],
        ["recommend", "das Bündel", "--history", "i1,i2", "-k", 3],
        ["data", "export", "toy", "--output", "für andere"],
        ["import", "lake", "--sequences", "lake", "--items", "items.csv"],
    ]
    done = run_all(folder, commands)
    assert done.stderr.count("exit code 0") == len(commands), done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    for name in ("für u1.json", "所有 users.parquet", "das Bündel/bundle.json", "für andere"):
        assert (folder / name).exists()
    assert leftovers(folder) == [] and find_fault(folder / "data") is None
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MASKGR_WORKSPACE": "data"}
    line = [sys.executable, "-m", "maskgr_cli", "serve", "--port", "0"]
    with subprocess.Popen(
        line, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as server:
        said = []
        for text in server.stdout:
            said.append(text)
            if '"started"' in text:
                break
        server.send_signal(signal.SIGTERM)
        said.append(server.stdout.read())
    assert any('"started"' in text for text in said), said
    assert "Traceback" not in "".join(said)


def test_a_run_in_training_is_neither_trained_again_nor_removed(toy: Workspace, maskgr: Maskgr) -> None:
    """A second training waits for the end of the first, and then says what there is; rm refuses."""
    line = ["train", "--model", "sasrec", "--preset", "smoke", "--name", "r", "--steps", "1000000"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MASKGR_WORKSPACE": str(toy.root)}
    command = [sys.executable, "-m", "maskgr_cli", *line]
    options = {"env": environment, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([*command, "--validations", "1000000"], **options) as first:
        while "validation R@10" not in (said := first.stderr.readline()):
            assert said, "the training ended"
        with subprocess.Popen([*command, "--validations", "1000000"], **options) as second:
            while "Waiting" not in (said := second.stderr.readline()):
                assert said, "the second training ended"
            refused = maskgr("rm", "runs/r", "--yes")
            assert refused.returncode == 2
            assert "runs/r is in use by a training" in refused.stderr
            first.send_signal(signal.SIGTERM)
            assert "the state is saved" in first.communicate()[1]
            said = second.communicate()[1]
    assert (first.returncode, second.returncode) == (143, 2)
    assert "was interrupted at step" in said.splitlines()[-1]
    assert [file for file in leftovers(toy.root) if not file.endswith(".lock")] == []
