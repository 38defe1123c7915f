"""The check of a GPU, on the CPU: that it runs where little is installed, goes on where it stopped, and would see a fault."""

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
    """Accelerate knows one precision a process: forget what other tests told it, and what these do."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def beauty(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The toy under Beauty's name, its semantic IDs made."""
    write_toy(workspace, name="beauty")
    monkeypatch.setenv("MASKGR_WORKSPACE", str(workspace.root))
    ensure_sids(workspace.dataset("beauty"), TokenizeConfig(), None, Silent())
    return workspace


def test_it_trains_and_evaluates_where_little_is_installed(beauty: Workspace, tmp_path: Path) -> None:
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
        command = [
            sys.executable,
            str(program),
            "--device",
            "cpu",
            "--preset",
            "smoke",
            "--only",
            "training",
            "--minutes",
            str(minutes),
        ]
        return subprocess.run(
            command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE
        )

    early = check(0.001)
    assert early.returncode == 1
    assert "Training did not begin in 0.001 minutes" in early.stderr
    done = check(60)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "gpu-check-cpu-smoke.json").read_text())["training"]
    assert (found["state"], found["steps"], len(found["slices"])) == ("finished", 300, 1)
    assert found["test"]["recall@10"] > 50
    assert max(v["recall@10"] for v in found["validation"]) == found["best"]["recall@10"]


def test_training_goes_on_where_the_last_call_stopped_it(
    beauty: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two calls with a stop between them are the same steps as one."""
    asked: list[list[str]] = []

    class Stopped:
        returncode = 130

        def __init__(self, command: list[str]) -> None:
            asked.append(command)

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
                    "steps": 10 * len(asked),
                    "seconds": 60.0 * len(asked),
                    "best": None,
                },
            )

    monkeypatch.setattr(gpu.subprocess, "Popen", Stopped)
    first = gpu.train("cpu", "smoke", 1.0, [])
    second = gpu.train("cpu", "smoke", 1.0, first["slices"])
    assert "--preset" in asked[0]
    assert "--resume" in asked[1]
    assert second["slices"] == [{"seconds": 60.0, "exit code": 130}] * 2
    assert second["steps"] == 20


def test_a_device_that_computes_something_else_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "KINDS", [("prefix", "item", "item")])
    assert all(check.passed for check in agreement.checks(CPU))
    honest = MaskGR.to

    def disturbed(model: MaskGR, device: torch.device) -> MaskGR:
        with torch.no_grad():
            model.embedding.weight += 0.1 * torch.randn_like(model.embedding.weight)
        return honest(model, device)

    monkeypatch.setattr(MaskGR, "to", disturbed)
    assert {check.name.split(",")[0] for check in agreement.checks(CPU) if not check.passed} == {
        "loss",
        "gradient",
        "scores",
    }


def test_a_step_that_waits_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch warns at each wait while asked to; here the warning is made up."""
    asked: list[str] = []
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", asked.append)
    kind = ("prefix", "item", "item")
    assert agreement._waits(*kind, CPU).passed
    assert asked == ["warn", "default"]
    step = agreement.Trainer._step

    def waiting(self: agreement.Trainer, *given: object) -> object:
        agreement.warnings.warn("called a synchronizing CUDA operation", stacklevel=2)
        return step(self, *given)

    monkeypatch.setattr(agreement.Trainer, "_step", waiting)
    found = agreement._waits(*kind, CPU)
    assert (found.off, found.passed) == (1, False)
    assert "agreement.py" in found.detail


def test_throughput_is_measured_against_the_reference_and_the_best_products(
    beauty: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throughput, "SIDES", {"fp32": ("fp32", False), "compiled": ("fp32", True)})
    monkeypatch.setattr(throughput, "ON_CPU", {"batch_size": 16})
    monkeypatch.setattr(throughput, "apart", _at_once)
    monkeypatch.setattr(torch, "compile", _broken)
    monkeypatch.setattr(training, "REFERENCE_BATCH", 2)
    monkeypatch.setattr(throughput.decoding, "REFERENCE_BATCH", 2)
    found = throughput.measure(CPU, "smoke", seconds=0.01, users=20)
    assert found["training"]["compiled"] == {"error": "RuntimeError: no compiler"}
    fp32 = found["training"]["fp32"]
    assert fp32["share"] == pytest.approx(fp32["TFLOP/s"] / fp32["products alone, TFLOP/s"])
    assert found["training"]["reference, the paper's sizes"]["sequences/s"] > 0
    assert {found["evaluation"][name]["users"] for name in ("T = H", "T = 1")} == {20}
    gpu.show_throughput(found)
    assert [gpu.figure(value) for value in (22363, 0.04971, None, "no compiler")] == [
        "22,363",
        "0.0497",
        None,
        "no compiler",
    ]


def _at_once(function: Callable[..., Any], *given: Any) -> Any:
    """As `apart`, in this process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    return function(*given)


def _broken(*_: object, **__: object) -> None:
    raise RuntimeError("no compiler\nat all")


def test_the_rate_of_products_counts_their_operations(
    beauty: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []
    monkeypatch.setattr(throughput, "rate", lambda work, seconds: counted.append(work()) or 1.0)
    trainer = training.trainer("smoke", batch_size=16, micro_tokens=128)
    throughput.product_rate(CPU, "fp32", trainer)
    assert counted == [10 * 2 * (2 * 128 * 32 * 64)]  # ten times two products of 2·m·n·k


def test_without_a_gpu_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="make gpu-check DEVICE=cpu PRESET=smoke"):
        gpu.main()
    assert common.RESULTS.exists()
