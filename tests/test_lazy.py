"""Commands are loaded when they are used, and listed without that."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from benchmarks import startup
from maskgr_cli.commands import COMMANDS
from maskgr_cli.lazy import load
from tests.conftest import ROOT

LOADED = """
import atexit, sys
from maskgr_cli.__main__ import main
atexit.register(lambda: print("loaded:", *(name for name in sys.modules if name.split(".")[0] in {heavy})))
sys.argv = ["maskgr", *{arguments}]
main()
"""
HEAVY = ["rich", "pydantic", "pyarrow", "numpy", "pipelines", "maskgr_cli"]


def loaded(*arguments: str) -> set[str]:
    """Return the modules of `HEAVY` that a command line loads."""
    code = LOADED.format(heavy=HEAVY, arguments=arguments)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return {*done.stdout.splitlines()[-1].split()[1:]}


def test_help_loads_no_command_and_show_loads_itself_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MASKGR_QUIET", raising=False)
    commands = {f"maskgr_cli.commands.{module}" for module, _ in COMMANDS.values()}
    modules = loaded("--help")
    assert not modules & (commands | {"rich", "pydantic"})
    modules = loaded("show", "--help")
    assert modules & commands == {"maskgr_cli.commands.show"}
    assert not modules & {"rich", "pydantic", "pyarrow", "numpy", "pipelines.models"}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_the_command_says(name: str) -> None:
    command = load(name)
    assert command.name == name
    assert (command.help or "").startswith(COMMANDS[name][1])


def test_help_groups_options_by_panel(maskgr: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    shown = maskgr("eval", "--help", COLUMNS="100").stdout.splitlines()
    titles = [line for line in shown if line.endswith(":") and not line.startswith(" ")]
    assert titles == ["Arguments:", "Options:", "Hyperparameters:"]
    assert max(map(len, shown)) <= 100
    assert any(line.startswith("  --workspace <path>  ") for line in shown)


def test_without_arguments_the_help_is_shown(maskgr: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    shown, asked = maskgr(), maskgr("--help")
    assert (shown.returncode, asked.returncode) == (2, 0)
    assert shown.stderr == asked.stdout


def test_a_mistyped_command_is_guessed(maskgr: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    failed = maskgr("shwo")
    assert failed.returncode == 2
    assert "No such command 'shwo'. Did you mean 'show'?" in failed.stderr


def test_the_benchmark_takes_the_median_of_each_side(monkeypatch: pytest.MonkeyPatch) -> None:
    sides = {"one": ["-c", "pass"], "other": ["-c", "pass"]}
    clock = iter([0, 100, 0, 200, 0, 3, 0, 8, 0, 1, 0, 9, 0, 2, 0, 7])  # the first round does not count
    monkeypatch.setattr(startup, "SIDES", sides)
    monkeypatch.setattr(startup.time, "perf_counter", lambda: next(clock))
    assert startup.measure(3) == {"one": 2, "other": 8}
