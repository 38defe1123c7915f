"""What a fresh machine needs: the lock file covers the project, and the program starts."""

from __future__ import annotations

import ast
import importlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pipelines import __version__

ROOT = Path(__file__).resolve().parent.parent
LOCK = [
    Requirement(line)
    for line in (ROOT / "requirements.lock").read_text().splitlines()
    if not line.startswith("#")
]
COMMANDS = ["download", "import", "embed", "tokenize", "train", "eval", "ablate", "report", "show"]
HEAVY = ["torch", "polars", "pyarrow", "numpy", "sklearn", "faiss", "transformers", "accelerate"]


def declared() -> list[Requirement]:
    """What the project needs to be built, run and tested."""
    toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    project = toml.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"]
    needs = [Requirement(line) for line in extras["dev"]]
    own = [extra for need in needs if need.name == "maskgr" for extra in need.extras]
    lines = [
        *project["build-system"]["requires"],
        *project["project"]["dependencies"],
        *(line for extra in own for line in extras[extra]),
    ]
    return [*map(Requirement, lines), *(need for need in needs if need.name != "maskgr")]


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
@pytest.mark.parametrize(
    ("system", "machine"), [("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64")]
)
def test_the_lock_pins_one_fitting_version_of_all_that_is_declared(
    python: str, system: str, machine: str
) -> None:
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": system,
        "platform_machine": machine,
        "extra": "",
    }
    pins = [pin for pin in LOCK if pin.marker is None or pin.marker.evaluate(environment)]
    names = [canonicalize_name(pin.name) for pin in pins]
    assert sorted(set(names)) == sorted(names)
    versions = {name: next(iter(pin.specifier)).version for name, pin in zip(names, pins, strict=True)}
    for need in (need for need in declared() if need.marker is None or need.marker.evaluate(environment)):
        assert need.specifier.contains(versions[canonicalize_name(need.name)]), need


def test_the_lock_holds_exact_pins_and_neither_addresses_nor_pytorch_s_gpu_packages() -> None:
    for pin in LOCK:
        assert [specifier.operator for specifier in pin.specifier] == ["=="], pin
        assert not re.match(r"nvidia|cuda|triton", pin.name), pin
    text = (ROOT / "requirements.lock").read_text()
    assert "://" not in text
    assert "index-url" not in text


def test_ci_runs_the_test_command_of_the_readme() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text().splitlines()[-1] == "make test"
    assert "\nmake test\n" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_make_lists_its_targets() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = next(line for line in makefile.splitlines() if line.startswith(".PHONY:")).split()[1:]
    shown = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert [line.split()[0] for line in shown.splitlines()] == phony


def test_ci_calls_targets_that_exist() -> None:
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    called = {*re.findall(r"run: make PYTHON=python (\S+)", text)}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert called == {"lint", "types", "docs", "test", "audit"} and text.count("run:") == len(called)
    for target in called:
        done = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True)
        assert f"\n{target}:" in makefile and done.returncode == 0, done.stderr


def test_help_lists_the_commands_in_pipeline_order(
    maskgr: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    result = maskgr("--help")
    assert result.returncode == 0
    words = re.findall(r"^\W*([a-z]+)\s{2,}", result.stdout, flags=re.MULTILINE)
    assert [word for word in words if word in COMMANDS] == COMMANDS


def test_version(maskgr: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    assert maskgr("--version").stdout == f"maskgr {__version__}\n"


def test_starting_the_program_imports_nothing_heavy() -> None:
    code = f"import sys, maskgr_cli.app; print(*[name for name in {HEAVY} if name in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == []


def test_every_folder_of_modules_is_a_package() -> None:
    folders = {
        path.parent for package in ("maskgr_cli", "pipelines") for path in (ROOT / package).rglob("*.py")
    }
    assert [str(folder) for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []


def test_no_test_gives_up_on_a_process_because_the_machine_is_busy() -> None:
    given = {
        f"{path.relative_to(ROOT)}:{node.value.lineno}: {ast.unparse(node.value)}"
        for path in (ROOT / "tests").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.keyword) and node.arg == "timeout"
    }
    assert given, "some tests wait for processes"
    assert {place for place in given if not place.endswith(": PATIENCE")} == set()
