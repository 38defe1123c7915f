"""Tests of `benchmarks.mutants`: the changes of a file, and a project whose tests notice some of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.mutants.changes import mutants, mutated
from tests.conftest import PATIENCE, ROOT

FILE = '''"""A text with 7."""
from typing import TYPE_CHECKING

SIZE: int = 3
if TYPE_CHECKING:
    OTHER = 4


def between(low: float, value: float, high: float = 2.5) -> bool:
    if not value:
        raise ValueError(f"{value + 1} is none")
    return low <= value < high


def unused(value: int) -> int:
    return value * 2
'''
TESTS = """
import pytest
from pipelines.decode.number import SIZE, between

def test_between():
    assert SIZE == 3
    assert between(1, 1) and between(1, 2)
    assert not between(1, 2.5) and not between(1, 0.5) and not between(1, 4)
    assert between(1, 2, 2.1)
    with pytest.raises(ValueError):
        between(0, 0)

def test_as_a_program(maskgr):
    assert False, "left out"
"""
# Each change as it is printed.
EXPECTED = [
    "4:13: 3  →  4  in  SIZE: int = 3",
    "4:13: 3  →  6  in  SIZE: int = 3",
    "9:53: 2.5  →  5.0  in  def between(low: float, value: float, high: float = 2.5) -> bool:",
    "9:53: 2.5  →  1.25  in  def between(low: float, value: float, high: float = 2.5) -> bool:",
    "10:8: not value  →  value  in  if not value:",
    "11:9: raise ValueError(f'{value + 1} is none')  →  pass",
    "12:5: return low <= value < high  →  return None",
    "12:12: low <= value < high  →  low < value < high  in  return low <= value < high",
    "12:12: low <= value < high  →  low <= value <= high  in  return low <= value < high",
    "16:5: return value * 2  →  return None",
    "16:12: value * 2  →  value / 2  in  return value * 2",
    "16:20: 2  →  3  in  return value * 2",
    "16:20: 2  →  4  in  return value * 2",
]
PROGRAM = """
from pathlib import Path
import benchmarks.mutants.__main__ as program
program.ROOT, program.LIBRARIES, program.PARTS = Path.cwd(), ("hypothesis",), ("decode",)
program.main()
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return the folder of a program of one file, with its tests."""
    for path, text in {
        "pipelines/__init__.py": "",
        "pipelines/decode/__init__.py": "",
        "pipelines/decode/number.py": FILE,
        "tests/conftest.py": "import pytest\n\n@pytest.fixture\ndef maskgr():\n    pass\n",
        "tests/decode/test_number.py": TESTS,
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")
    return tmp_path


def test_the_changes_of_a_file(project: Path) -> None:
    path = "pipelines/decode/number.py"
    result = mutants(project, path)
    assert sorted(map(str, result)) == sorted(f"{path}:{change}" for change in EXPECTED)
    assert {mutant.function for mutant in result} == {None, 9, 15}
    for mutant in result:
        compile(mutated(project, mutant), path, "exec")


def test_changes_that_no_test_notices_survive(project: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{project}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-c", PROGRAM, "--jobs", "2", "--count", "99"]
    child = subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, timeout=PATIENCE
    )
    assert child.returncode == 0, child.stderr
    *_, last = lines = child.stdout.splitlines()
    survived = sorted(line.removeprefix("survived").strip() for line in lines if line.startswith("survived"))
    assert survived == sorted(
        f"pipelines/decode/number.py:{change}" for change in EXPECTED if change.startswith("16:")
    )
    assert last == "9 of 13 killed, 4 survived (30.8%)."


def test_tests_that_fail_without_a_change_end_the_program(project: Path) -> None:
    (project / "tests/decode/test_number.py").write_text("def test_it():\n    assert False\n")
    environment = {**os.environ, "PYTHONPATH": f"{project}{os.pathsep}{ROOT}"}
    child = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert child.returncode == 1
    assert "Tests fail without a change" in child.stderr
