"""Tests of `benchmarks.gpu` on the CPU: it runs with few packages installed, resumes a stopped training, and
detects a wrong device.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState

from benchmarks import common, training
from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import agreement, throughput
from pipelines import artifacts
from pipelines.defaults import ensure_sids
from pipelines.models.sid_models.maskgr import MaskGR
from pipelines.progress import Silent
from pipelines.tokenize.config import TokenizeConfig
from pipelines.workspace import Workspace
from tests.conftest import PATIENCE, ROOT, write_toy

CPU = torch.device("cpu")
ABSENT = ("polars", "faiss", "transformers", "sklearn", "scipy", "pytest", "hypothesis", "matplotlib")


@pytest.fixture(autouse=True)
def own_accelerate() -> Iterator[None]:
    """Reset Accelerate before and after each test, since it supports one precision per process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def beauty(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Return a workspace with the toy data set under Beauty's name, and its semantic IDs."""
    write_toy(workspace, name="beauty")
    monkeypatch.setenv("MASKGR_WORKSPACE", str(workspace.root))
    ensure_sids(workspace.dataset("beauty"), TokenizeConfig(), None, Silent())
    return workspace


def test_it_trains_and_evaluates_with_few_packages(beauty: Workspace, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "sitecustomize.py").write_text(f"import sys\nsys.modules.update(dict.fromkeys({ABSENT!r}))\n")
    program = tmp_path / "check.py"
    program.write_text(
        "import pathlib, benchmarks.common as common, benchmarks.gpu.__main__ as gpu\n"
        f"gpu.RESULTS = common.RESULTS = pathlib.Path({str(tmp_path)!r})\n"
        "gpu.main()\n"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": f"{blocked}{os.pathsep}{ROOT}",
        "MASKGR_WORKSPACE": str(beauty.root),
    }

    def check(minutes: float) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(program), "--device", "cpu", "--preset", "smoke"]
        command += ["--only", "training", "--minutes", str(minutes)]
        return subprocess.run(
            command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE
        )

    early = check(0.001)
    assert early.returncode == 1
    assert "Training did not begin in 0.001 minutes" in early.stderr
    finished = check(60)
    assert finished.returncode == 0, finished.stderr
    results = json.loads((tmp_path / "gpu-check-cpu-smoke.json").read_text())["training"]
    assert (results["state"], results["steps"], len(results["slices"])) == ("finished", 300, 1)
    assert results["test"]["recall@10"] > 50
    assert max(v["recall@10"] for v in results["validation"]) == results["best"]["recall@10"]


def test_training_resumes_where_the_last_call_stopped_it(
    beauty: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second call resumes the run of the first."""
    commands: list[list[str]] = []

    class Stopped:
        returncode = 130

        def __init__(self, command: list[str]) -> None:
            commands.append(command)

        def wait(self, seconds: float | None = None) -> None:
            if seconds is not None:
                raise subprocess.TimeoutExpired("train", seconds)

        def send_signal(self, number: int) -> None:
            assert number == signal.SIGTERM
            run = beauty.run("gpu-check-cpu-smoke")
            artifacts.write_json(
                run.config,
                {
                    "state": "interrupted",
                    "steps": 10 * len(commands),
                    "seconds": 60.0 * len(commands),
                    "best": None,
                },
            )

    monkeypatch.setattr(gpu.subprocess, "Popen", Stopped)
    first = gpu.train("cpu", "smoke", 1.0, [])
    second = gpu.train("cpu", "smoke", 1.0, first["slices"])
    assert "--preset" in commands[0]
    assert "--resume" in commands[1]
    assert second["slices"] == [{"seconds": 60.0, "exit code": 130}] * 2
    assert second["steps"] == 20


def test_a_device_with_other_results_fails_the_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "KINDS", [("prefix", "item", "item")])
    assert all(check.passed for check in agreement.checks(CPU))
    original = MaskGR.to

    def disturbed(model: MaskGR, device: torch.device) -> MaskGR:
        with torch.no_grad():
            model.embedding.weight += 0.1 * torch.randn_like(model.embedding.weight)
        return original(model, device)

    monkeypatch.setattr(MaskGR, "to", disturbed)
    assert {check.name.split(",")[0] for check in agreement.checks(CPU) if not check.passed} == {
        "loss",
        "gradient",
        "scores",
    }


def test_waits_in_a_step_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch warns at each wait in its debug mode; here the test raises the warning."""
    modes: list[str] = []
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    kind = ("prefix", "item", "item")
    assert agreement.count_waits(*kind, CPU).passed
    assert modes == ["warn", "default"]
    step = agreement.Trainer.training_step

    def waiting(self: agreement.Trainer, *arguments: object) -> object:
        agreement.warnings.warn("called a synchronizing CUDA operation", stacklevel=2)
        return step(self, *arguments)

    monkeypatch.setattr(agreement.Trainer, "training_step", waiting)
    check = agreement.count_waits(*kind, CPU)
    assert (check.off, check.passed) == (1, False)
    assert "agreement.py" in check.detail


def test_throughput_is_compared_with_the_reference_and_with_matrix_products(
    beauty: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throughput, "SIDES", {"fp32": ("fp32", False), "compiled": ("fp32", True)})
    monkeypatch.setattr(throughput, "ON_CPU", {"batch_size": 16})
    monkeypatch.setattr(throughput, "in_new_process", _in_this_process)
    monkeypatch.setattr(torch, "compile", _broken)
    monkeypatch.setattr(training, "REFERENCE_BATCH", 2)
    monkeypatch.setattr(throughput.decoding, "REFERENCE_BATCH", 2)
    results = throughput.measure(CPU, "smoke", seconds=0.01, users=20)
    assert results["training"]["compiled"] == {"error": "RuntimeError: no compiler"}
    fp32 = results["training"]["fp32"]
    assert fp32["share"] == pytest.approx(fp32["TFLOP/s"] / fp32["products alone, TFLOP/s"])
    assert results["training"]["reference, the paper's sizes"]["sequences/s"] > 0
    assert {results["evaluation"][name]["users"] for name in ("T = H", "T = 1")} == {20}
    gpu.show_throughput(results)
    assert [gpu.figure(value) for value in (22363, 0.04971, None, "no compiler")] == [
        "22,363",
        "0.0497",
        None,
        "no compiler",
    ]


def _in_this_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function as `in_new_process` does, but in this process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    return function(*arguments)


def _broken(*_: object, **__: object) -> None:
    raise RuntimeError("no compiler\nat all")


def test_the_rate_of_matrix_products_counts_their_operations(
    beauty: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []
    monkeypatch.setattr(throughput, "rate", lambda work, seconds: counted.append(work()) or 1.0)
    trainer = training.trainer("smoke", batch_size=16, micro_tokens=128)
    throughput.product_rate(CPU, "fp32", trainer)
    assert counted == [10 * 2 * (2 * 128 * 32 * 64)]  # ten times two products of 2·m·n·k


def test_the_message_without_a_gpu_names_the_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="make gpu-check DEVICE=cpu PRESET=smoke"):
        gpu.main()
    assert common.RESULTS.exists()
