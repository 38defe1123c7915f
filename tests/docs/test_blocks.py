"""The shell blocks and Python blocks of the documents run, line by line, on an invented workspace.

Trainings take the preset `smoke` and ten steps. `NOT_RUN` has the lines that cannot run in a test.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import PATIENCE, ROOT
from tests.docs.conftest import TRAINING, maskgr

# The example of adding-a-model.md is run by tests/models/test_adding_a_model.py.
PAGES = [
    *sorted(path for path in (ROOT / "docs").glob("*.md") if path.name != "adding-a-model.md"),
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
]
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOT_RUN = {  # pattern of the beginning of a line → why no test runs it
    "make ": "it installs packages, and most targets take minutes",
    "pip ": "it installs packages",
    "git clone": "it needs the network",
    "cd maskgr": "it follows the clone",
    "maskgr download": "it needs the network",
    "maskgr import lake": "it needs the files of another program; tests/import_ write some",
    "maskgr serve": "it runs until it is stopped; tests/serve start it",
    "curl ": "it needs the service; tests/serve send such requests",
    r"maskgr .*\bhf:": "it needs the network; tests/bundle use a local server",
    "maskgr .* --push": "it needs the network; tests/bundle use a local server",
    "maskgr .* --gpus": "it needs GPUs",
    "torchrun ": "it needs several machines; tests/train/test_machines.py starts two launchers",
    "maskgr embed --encoder google/": "it needs the network",
    "maskgr tune": "it takes an hour; tests/train search in seconds",
    "maskgr ablate": "it takes hours; tests/ablate run small grids",
    "maskgr rm datasets/shop --with-dependents": "it removes what the next line names",
    "maskgr train --preset strong": "it trains six runs; tests/e2e/test_strong.py does in seconds",
    "maskgr train --resume": "it needs an interrupted run; tests/train interrupt some",
}
KEPT = ("--final", "--continue", "--resume")  # of a training whose settings are those of another run
MODULE = '"""Recommend items with numpy'  # a file of a bundle, which is run as such


def commands(block: str) -> Iterator[str]:
    """Yield the commands of a shell block; a line that ends with a backslash continues."""
    if "<<'END'" in block:
        yield block
        return
    for line in block.replace("\\\n", " ").splitlines():
        if line.strip() and not line.startswith("#"):
            yield line


def not_run(command: str) -> bool:
    return any(re.match(pattern, command) for pattern in NOT_RUN)


def run_command(command: str) -> None:
    """Run a command of a shell block; `maskgr` runs in this process, which saves its imports."""
    words = shlex.split(command, comments=True)
    if words[0] != "maskgr" or "<<" in command:
        script = re.sub(r"^python\b", shlex.quote(sys.executable), command)
        subprocess.run(["bash", "-euc", script], check=True, timeout=PATIENCE)
        return
    target = None
    if ">" in words:
        *words, _, target = words
    arguments = words[1:]
    if arguments[0] == "train" and not set(KEPT) & set(arguments):
        arguments += TRAINING[:6]
    if arguments[0] == "rm" or ("forget" in arguments and "--yes" not in arguments):  # no terminal answers
        arguments += ["--yes"]
    output = maskgr(*arguments)
    if target:
        Path(target).write_text(output)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "page", [page for page in PAGES if BLOCK.search(page.read_text("utf-8"))], ids=lambda page: page.name
)
def test_the_blocks_of_a_page_run(
    page: Path, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MASKGR_WORKSPACE", "data")
    names: dict[str, object] = {}
    for language, block in BLOCK.findall(page.read_text(encoding="utf-8")):
        if page.name != "quick-start.md":  # it makes its own; elsewhere what a block removes comes back
            shutil.copytree(template, tmp_path, dirs_exist_ok=True)
        if "export RUN --output FOLDER" in block:
            shutil.rmtree("FOLDER")
        if language == "bash":
            for command in commands(block):
                if not not_run(command):
                    run_command(command)
        elif not block.startswith(MODULE):
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                exec(compile(block, str(page), "exec"), names)  # noqa: S102 - the document's own code
            assert printed.getvalue()


def test_every_line_that_is_not_run_exists() -> None:
    lines = [
        command
        for page in PAGES
        for language, block in BLOCK.findall(page.read_text(encoding="utf-8"))
        if language == "bash"
        for command in commands(block)
    ]
    for pattern in NOT_RUN:
        assert any(re.match(pattern, line) for line in lines), pattern
