"""Packages, processor, memory, disk and devices."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipelines import __version__
from pipelines.doctor.report import ADVICE, BROKEN, Fact, Problem
from pipelines.processor import processor

SHOWN = ("torch", "faiss-cpu", "faiss-gpu", "polars", "pyarrow", "transformers", "accelerate")
PYTHONS = ((3, 10), (3, 14))  # the first version that is supported, and the first that is not
FULL_DISK = 1 << 30  # bytes; less is reported
FAISS = {"faiss-cpu": "faiss-gpu"}  # package → package that provides the same module
NVIDIA = Path("/proc/driver/nvidia/version")
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
CPU_LIMIT, MEMORY_LIMIT = Path("/sys/fs/cgroup/cpu.max"), Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True)
class Package:
    """One package.

    Attributes:
        version: installed version; None if it is not installed.
        needed: versions that maskgr needs, e.g. ">=2.9"; empty if any will do.
    """

    name: str
    version: str | None
    needed: str


def packages() -> tuple[list[Package], list[Problem]]:
    """Return maskgr, Python and the main packages, and the problems with any package that maskgr needs."""
    needed = _needed()
    problems = [] if PYTHONS[0] <= sys.version_info[:2] < PYTHONS[1] else [_python_problem()]
    for name, specifier in needed.items():
        problems += _package_problems(name, specifier, needed)
    if all(_version(name) for pair in FAISS.items() for name in pair):
        reason = "both are installed and provide the same module"
        command = "pip uninstall --yes faiss-cpu && pip install --force-reinstall --no-deps faiss-gpu"
        problems.append(Problem(BROKEN, "faiss-cpu, faiss-gpu", reason, command))
    low, high = (".".join(map(str, version)) for version in PYTHONS)
    listed = [
        Package("maskgr", __version__, ""),
        Package("Python", platform.python_version(), f">={low},<{high}"),
        *(Package(name, _version(name), needed.get(name, "")) for name in SHOWN if _version(name)),
    ]
    return listed, problems


def _needed() -> dict[str, str]:
    """Return the versions that maskgr needs of its dependencies, by package; empty if it is not installed."""
    from packaging.requirements import Requirement

    try:
        lines = importlib.metadata.requires("maskgr") or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    requirements = [Requirement(line) for line in lines]
    return {
        requirement.name: str(requirement.specifier)
        for requirement in requirements
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""})
    }


def _package_problems(name: str, specifier: str, needed: dict[str, str]) -> Iterator[Problem]:
    from packaging.specifiers import SpecifierSet

    version, command = _version(name), f"pip install {shlex.quote(name + specifier)}"
    if version is None and not _version(FAISS.get(name, "")):
        yield Problem(BROKEN, name, "it is not installed", command)
    elif version is not None and not SpecifierSet(specifier).contains(version, prereleases=True):
        yield Problem(BROKEN, name, f"version {version} is installed, and {specifier} is needed", command)


def _python_problem() -> Problem:
    reason = f"version {platform.python_version()} runs, and 3.10 to 3.13 are supported"
    return Problem(BROKEN, "Python", reason, "make PYTHON=python3.12 test")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return None


def machine(root: Path) -> tuple[list[Fact], list[Problem]]:
    """Return facts about processor, threads, memory and the disk of a workspace, and their problems.

    Args:
        root: folder of the workspace, which need not exist.
    """
    import psutil

    memory = psutil.virtual_memory()
    disk = shutil.disk_usage(_existing(root))
    cores, quota, threads = usable_cores(), _cpu_limit(), os.environ.get("OMP_NUM_THREADS")
    facts = [
        Fact("system", f"{platform.system()} {platform.release()}, {platform.machine()}"),
        Fact("processor", processor()),
        Fact("cores", cores),
        Fact("limit of cores", quota),
        Fact("OMP_NUM_THREADS", threads),
        Fact("memory", memory.total, "bytes"),
        Fact("memory available", memory.available, "bytes"),
        Fact("limit of memory", _memory_limit(), "bytes"),
        Fact("disk free", disk.free, "bytes"),
        Fact("huge pages", _read(HUGE_PAGES)),
    ]
    problems = []
    most = max(1, min(cores, int(float(quota)))) if quota else cores
    if (threads and threads.isdigit() and int(threads) > most) or (not threads and most < cores):
        reason = f"more threads than the {most} cores that this process may use wait for each other"
        problems.append(Problem(ADVICE, "OMP_NUM_THREADS", reason, f"export OMP_NUM_THREADS={most}"))
    if disk.free < FULL_DISK:
        reason = f"only {disk.free / 2**20:,.0f} MiB are free at {root}"
        problems.append(Problem(ADVICE, "disk", reason, "maskgr rm downloads/NAME"))
    return facts, problems


def devices() -> tuple[list[Fact], list[Problem]]:
    """Return facts about PyTorch and its devices, and problems. PyTorch and faiss are imported."""
    problems = [*_import_problems("faiss"), *_import_problems("torch")]
    if any(problem.subject == "torch" for problem in problems):
        return [], problems
    import torch

    from pipelines.models.nn.precision import uses_bf16

    count = torch.cuda.device_count()
    facts = [
        Fact("CUDA of PyTorch", torch.version.cuda),
        Fact("threads of PyTorch", torch.get_num_threads()),
        Fact("GPUs", count),
    ]
    for number in range(count):
        free, total = torch.cuda.mem_get_info(number)
        name = torch.cuda.get_device_name(number)
        facts += [Fact(f"GPU {number}", name), Fact(f"GPU {number}, memory", total, "bytes")]
        facts += [Fact(f"GPU {number}, memory free", free, "bytes")]
    mps = torch.backends.mps.is_available()
    device = torch.device("cuda" if count else "mps" if mps else "cpu")
    facts += [
        Fact("MPS", "yes" if mps else "no"),
        Fact("products of --precision auto", "bf16" if uses_bf16("auto", device) else "fp32"),
    ]
    if NVIDIA.exists() and not count and os.environ.get("CUDA_VISIBLE_DEVICES") is None:
        reason = "an NVIDIA driver is loaded, and PyTorch sees no GPU"
        problems.append(Problem(ADVICE, "torch", reason, "pip install --force-reinstall torch"))
    return facts, problems


def _import_problems(module: str) -> Iterator[Problem]:
    try:
        importlib.import_module(module)
    except Exception as error:  # any fault of an installation
        package = next((name for name in SHOWN if name.startswith(module) and _version(name)), module)
        lines = str(error).strip().splitlines() or [type(error).__name__]
        yield Problem(
            BROKEN, module, f"it cannot be imported ({lines[0]})", f"pip install --force-reinstall {package}"
        )


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _existing(path: Path) -> Path:
    """Return the path, or the nearest folder above it that exists."""
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())


def _cpu_limit() -> str | None:
    """Return the number of cores to which the control group limits this process, e.g. "1.5"."""
    quota, _, period = (_read(CPU_LIMIT) or "").partition(" ")
    return f"{int(quota) / int(period):g}" if quota.isdigit() and period.isdigit() else None


def _memory_limit() -> int | None:
    """Return the bytes to which the control group limits this process."""
    limit = _read(MEMORY_LIMIT) or ""
    return int(limit) if limit.isdigit() else None


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return None
