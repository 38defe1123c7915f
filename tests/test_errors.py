"""What a library throws while it reads becomes one line; what a person or the system does passes."""

from __future__ import annotations

import lzma
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.errors import UserError, hidden_panics, is_lost_process, reading
from tests.conftest import ROOT


class PanicException(BaseException):
    """As pyo3's, which a panic of a library in Rust becomes."""


FAILURES = [
    RecursionError("deep"),
    MemoryError(),
    lzma.LZMAError("Corrupt\ninput"),
    OverflowError("large"),
    PanicException("not yet implemented"),
]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
def test_what_a_library_throws_is_one_line(failure: BaseException) -> None:
    with pytest.raises(UserError) as raised, reading(Path("a.zip"), "zip archive", "Fetch it again."):
        raise failure
    reason = (str(failure) or "MemoryError").split("\n")[0]
    assert str(raised.value) == f"a.zip is not a readable zip archive ({reason}). Fetch it again."


@pytest.mark.parametrize(
    "failure", [KeyboardInterrupt(), SystemExit(3), UserError("said already"), FileNotFoundError("a.zip")]
)
def test_all_else_passes(failure: BaseException) -> None:
    with pytest.raises(type(failure)) as raised, reading(Path("a.zip"), "zip archive", ""):
        raise failure
    assert raised.value is failure


def test_what_a_panic_prints_is_kept_back(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError), reading(Path("a"), "file", ""), hidden_panics():
        os.write(2, b"thread panicked at array.rs, stack backtrace")
        raise PanicException("not yet implemented")
    with pytest.raises(UserError), reading(Path("a"), "file", ""), hidden_panics():
        os.write(2, b"a warning\n")
        raise ValueError("no")
    assert capfd.readouterr().err == "a warning\n"


LOSES = """
import sys
import torch
from torch import distributed
from pipelines.errors import is_lost_process

rank = int(sys.argv[1])
distributed.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=rank, world_size=2)
distributed.all_reduce(torch.zeros(1))
if rank == 0:
    try:
        distributed.all_reduce(torch.zeros(1))
    except Exception as error:
        print(is_lost_process(error), flush=True)
import os
os._exit(0)
"""


def test_the_end_of_another_process_is_told_from_other_errors(tmp_path: Path) -> None:
    line = [sys.executable, "-c", LOSES]
    with subprocess.Popen([*line, "1", str(tmp_path / "store")], cwd=ROOT) as other:
        left = subprocess.run([*line, "0", str(tmp_path / "store")], cwd=ROOT, capture_output=True, text=True)
    assert other.returncode == 0
    assert left.stdout == "True\n", left.stderr
    assert not is_lost_process(RuntimeError("shape mismatch"))
