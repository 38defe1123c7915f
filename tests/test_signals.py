"""Ctrl-C and SIGTERM: the exit code that is promised and a line or none, from the first import on."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines import artifacts
from pipelines.workspace import Workspace
from tests.conftest import ROOT

# After which import the signal comes: before and in the command line's own, and in those of a command.
MOMENTS = [
    "pipelines.orphans",
    "typer",
    "rich.console",
    "maskgr_cli.app",
    "numpy",
    "pyarrow.lib",
    "torch._C",
    "pipelines.train.run",
]
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


# A sitecustomize module: once a module is loaded, the process sends itself a signal.
HOOK = """
import builtins, os, sys

moment, number, load = os.environ["MOMENT"], int(os.environ["SIGNAL"]), builtins.__import__

def loading(*arguments, **options):
    module = load(*arguments, **options)
    spec = getattr(sys.modules.get(moment), "__spec__", None)
    if spec and not getattr(spec, "_initializing", False) and builtins.__import__ is loading:
        builtins.__import__ = load
        os.kill(os.getpid(), number)
    return module

builtins.__import__ = loading
"""


def start(toy: Workspace, *arguments: object, **environment: str) -> subprocess.Popen[str]:
    """The program, telling each import on standard error."""
    command = [sys.executable, "-X", "importtime", "-m", "maskgr_cli", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MASKGR_WORKSPACE": str(toy.root), **environment}
    return subprocess.Popen(
        command, cwd=toy.root, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def wait_for(process: subprocess.Popen[str], pattern: str) -> list[str]:
    """Read standard error up to a line that ends with `pattern`."""
    seen = []
    for line in process.stderr:
        seen.append(line)
        if re.search(pattern + "$", line.rstrip()):
            return seen
    raise AssertionError(f"{pattern} was never said:\n{''.join(seen)}")


def said(lines: list[str]) -> list[str]:
    return [line.rstrip() for line in lines if not line.startswith("import time:")]


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("number", CODES)
def test_a_signal_while_modules_load(
    toy: Workspace, moment: str, number: signal.Signals, tmp_path: Path
) -> None:
    if moment not in (*MOMENTS[:4], "numpy") and number == signal.SIGTERM:
        pytest.skip("the same way")
    (tmp_path / "sitecustomize.py").write_text(HOOK)
    hook = {"MOMENT": moment, "SIGNAL": str(int(number)), "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    with start(
        toy,
        "train",
        "--model",
        "sasrec",
        "--preset",
        "smoke",
        "--steps",
        "100000",
        "--dataset",
        "toy",
        **hook,
    ) as process:
        lines = said(process.stderr.readlines())
    assert process.returncode == CODES[number], lines
    assert lines in ([], ["Interrupted."], ["Terminated."]), lines


@pytest.mark.parametrize("number", CODES)
def test_a_signal_while_training_saves(toy: Workspace, number: signal.Signals) -> None:
    options = ["--steps", 10**6, "--validations", 10**6, "--name", "long", "--precision", "fp32"]
    with start(
        toy, "train", "--model", "sasrec", "--preset", "smoke", "--dataset", "toy", *options
    ) as process:
        wait_for(process, r"validation R@10 .* left")
        process.send_signal(number)
        lines = said(process.stderr.readlines())
    assert process.returncode == CODES[number], lines
    stopped = [line for line in lines if line.startswith("Stopped at step")]
    assert len(stopped) == 1, lines
    assert not any("Traceback" in line for line in lines)
    run = toy.run("long")
    assert run.state.exists()
    assert artifacts.read_json(run.config)["state"] == "interrupted"


def test_a_swallowed_signal_still_ends_the_program() -> None:
    """Python drops what is raised in a destructor; a library may turn it into an error of its own."""
    code = """
import os, signal, sys
from maskgr_cli import app, signals
class Swallows:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)
def swallowed():
    Swallows()
    print("goes on")
def replaced():
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        raise ImportError("numpy failed to import") from None
app.app = globals()[sys.argv[1]]
app.main()
"""
    for how in ("swallowed", "replaced"):
        done = subprocess.run([sys.executable, "-c", code, how], cwd=ROOT, capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize("number", CODES)
def test_a_signal_after_the_work_changes_nothing(number: signal.Signals) -> None:
    code = f"""
import atexit, os, sys
from maskgr_cli.app import main
atexit.register(os.kill, os.getpid(), {int(number)})
sys.argv = ["maskgr", "--version"]
main()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("maskgr ")


def test_a_signal_between_the_work_and_the_end_of_its_block_is_no_traceback() -> None:
    code = """
import os, signal, sys
from maskgr_cli import app, signals

def killed():  # at the beginning of the `finally` of `raise_on_signal`
    os.kill(os.getpid(), signal.SIGINT)

signals.exit_on_signal = killed
sys.argv = ["maskgr", "--version"]
app.main()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "")
