"""Packages, limits of the machine, and devices, with the problems that they can have."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipelines import __version__
from pipelines.doctor import machine
from pipelines.doctor.report import ADVICE, BROKEN, Fact, Problem

INSTALLED = {"torch": "2.13.0+cpu", "faiss-cpu": "1.15.1", "polars": "2.1.0", "pyarrow": "26.0.1"}
REQUIRED = ["torch>=2.9", "faiss-cpu>=1.10", "polars>=1.32", "pyarrow>=17", "pytest>=8; extra == 'dev'"]


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Packages that are installed, by name; a test may change them."""
    versions = dict(INSTALLED)

    def version(name: str) -> str:
        if name not in versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: REQUIRED)
    return versions


def facts(listed: list[Fact]) -> dict[str, object]:
    return {fact.name: fact.value for fact in listed}


def test_a_complete_installation_has_no_problem(installed: dict[str, str]) -> None:
    listed, problems = machine.packages()
    assert problems == []
    by_name = {package.name: package for package in listed}
    assert by_name["maskgr"].version == __version__
    assert (by_name["torch"].version, by_name["torch"].needed) == ("2.13.0+cpu", ">=2.9")
    assert "faiss-gpu" not in by_name


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"polars": None}, [("polars", "it is not installed", "pip install 'polars>=1.32'")]),
        (
            {"pyarrow": "16.1"},
            [("pyarrow", "version 16.1 is installed, and >=17 is needed", "pip install 'pyarrow>=17'")],
        ),
        ({"torch": "2.9.0.dev1"}, [("torch", "version 2.9.0.dev1 is installed, and >=2.9 is needed", None)]),
        ({"faiss-cpu": None}, [("faiss-cpu", "it is not installed", None)]),
        ({"faiss-cpu": None, "faiss-gpu": "1.14"}, []),
        (
            {"faiss-gpu": "1.14"},
            [("faiss-cpu, faiss-gpu", "both are installed and provide the same module", None)],
        ),
    ],
)
def test_packages_that_are_missing_old_or_double(
    installed: dict[str, str], changes: dict[str, str | None], expected: list[tuple[str, str, str | None]]
) -> None:
    for name, version in changes.items():
        installed.pop(name, None)
        if version:
            installed[name] = version
    _, problems = machine.packages()
    assert all(problem.kind == BROKEN for problem in problems)
    assert [(p.subject, p.reason) for p in problems] == [(subject, reason) for subject, reason, _ in expected]
    for problem, (_, _, command) in zip(problems, expected, strict=True):
        assert command in (None, problem.command)


def test_a_python_that_is_not_supported(installed: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.sys, "version_info", (3, 14, 0))
    assert machine.packages()[1][0].subject == "Python"


@pytest.mark.parametrize(
    ("quota", "threads", "cores", "most"),
    [
        ("max 100000", None, 4, None),
        ("max 100000", "4", 4, None),
        ("max 100000", "5", 4, 4),
        ("150000 100000", None, 4, 1),
        ("250000 100000", "2", 4, None),
        ("50000 100000", "1", 4, None),
        ("800000 100000", None, 4, None),
    ],
)
def test_more_threads_than_cores_are_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    quota: str,
    threads: str | None,
    cores: int,
    most: int | None,
) -> None:
    (tmp_path / "cpu.max").write_text(f"{quota}\n")
    (tmp_path / "memory.max").write_text("1073741824\n")
    monkeypatch.setattr(machine, "CPU_LIMIT", tmp_path / "cpu.max")
    monkeypatch.setattr(machine, "MEMORY_LIMIT", tmp_path / "memory.max")
    monkeypatch.setattr(machine, "usable_cores", lambda: cores)
    monkeypatch.delenv("OMP_NUM_THREADS")
    if threads:
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
    listed, problems = machine.machine(tmp_path / "not" / "there")
    by_name = facts(listed)
    assert (by_name["cores"], by_name["limit of memory"]) == (cores, 1 << 30)
    assert by_name["memory"] > by_name["memory available"] > 0
    assert [p.command for p in problems] == ([f"export OMP_NUM_THREADS={most}"] if most else [])


def test_a_disk_that_is_almost_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: SimpleNamespace(free=5 << 20))
    _, problems = machine.machine(tmp_path)
    assert (problems[-1].kind, problems[-1].subject) == (ADVICE, "disk")
    assert "only 5 MiB are free" in problems[-1].reason


def test_a_package_that_cannot_be_imported(
    monkeypatch: pytest.MonkeyPatch, installed: dict[str, str]
) -> None:
    def import_module(name: str) -> None:
        if name == "torch":
            raise OSError("libtorch.so: cannot open shared object file\nmore")

    monkeypatch.setattr(machine.importlib, "import_module", import_module)
    listed, problems = machine.devices()
    assert listed == []
    reason = "it cannot be imported (libtorch.so: cannot open shared object file)"
    assert problems == [Problem(BROKEN, "torch", reason, "pip install --force-reinstall torch")]


def test_a_gpu_that_pytorch_does_not_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(machine, "NVIDIA", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    listed, problems = machine.devices()
    assert facts(listed)["GPUs"] == 0
    assert [(p.kind, p.reason) for p in problems] == [
        (ADVICE, "an NVIDIA driver is loaded, and PyTorch sees no GPU")
    ]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # the user hides them
    assert machine.devices()[1] == []


def test_gpus_are_listed_with_their_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: f"card {number}")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda number: (number + 1, 10))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    by_name = facts(machine.devices()[0])
    assert (by_name["GPU 1"], by_name["GPU 1, memory"], by_name["GPU 1, memory free"]) == ("card 1", 10, 2)
    assert by_name["products of --precision auto"] == "bf16"
