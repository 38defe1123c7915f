"""`pip install .` in an environment of its own, used from another folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.conftest import PATIENCE, ROOT

PARTS = ("pyproject.toml", "README.md", "LICENSE", "maskgr", "maskgr_cli", "pipelines")
FILES = """
import json
from pathlib import Path

import maskgr, pipelines
from pipelines.serve.app import PAGE

home = Path(pipelines.__file__).parent
print(json.dumps({
    "home": str(home),
    "files": sorted(str(p.relative_to(home)) for p in home.rglob("*") if p.is_file() and p.suffix != ".pyc"),
    "page": (PAGE / "index.html").is_file(),
}))
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with maskgr alone; the dependencies are those of the tests' environment."""
    folder = tmp_path_factory.mktemp("install")
    source, home = folder / "source", folder / "environment"
    source.mkdir()
    for part in PARTS:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, source / part)
    run(sys.executable, "-m", "venv", "--without-pip", home)
    pip = [sys.executable, "-m", "pip", "--quiet"]
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source)
    (wheel,) = folder.glob("*.whl")
    run(*pip, "--python", home / "bin" / "python", "install", "--no-deps", "--no-index", wheel)
    (packages,) = home.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return home


def run(*command: object, cwd: Path | None = None) -> str:
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, cwd=cwd, timeout=PATIENCE, env=clean()
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def clean() -> dict[str, str]:
    """Return the environment variables without those that would lead to this checkout."""
    return {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MASKGR_WORKSPACE")
    }


def test_all_files_of_the_packages_come_along(environment: Path, tmp_path: Path) -> None:
    found = json.loads(run(environment / "bin" / "python", "-c", FILES, cwd=tmp_path))
    assert Path(found["home"]).is_relative_to(environment)
    assert found["page"]
    pipelines = ROOT / "pipelines"
    expected = {
        str(path.relative_to(pipelines))
        for path in pipelines.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert set(found["files"]) == expected


def test_the_program_runs_in_another_folder(environment: Path, tmp_path: Path) -> None:
    program = environment / "bin" / "maskgr"
    assert "serve" in run(program, "--help", cwd=tmp_path)
    assert "small" in run(program, "presets", cwd=tmp_path)
    assert "table1" in run(program, "ablate", "--help", cwd=tmp_path)
