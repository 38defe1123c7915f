"""Tests of `benchmarks.gpu` on the CPU: it runs with few packages installed, and detects a wrong device."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState

from benchmarks import training
from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import agreement, attention, pack, throughput
from benchmarks.gpu import training as gpu_training
from benchmarks.gpu.process import Conditions
from pipelines.defaults import ensure_sids
from pipelines.errors import UserError
from pipelines.models.sid_models.maskgr import MaskGR
from pipelines.progress import Silent
from pipelines.tokenize.config import TokenizeConfig
from pipelines.workspace import Workspace
from tests.conftest import PATIENCE, ROOT, write_toy

CPU = torch.device("cpu")
ABSENT = (
    "polars",
    "faiss",
    "transformers",
    "sklearn",
    "scipy",
    "pytest",
    "hypothesis",
    "matplotlib",
    "optuna",
)


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


def test_it_runs_with_few_packages(beauty: Workspace, tmp_path: Path) -> None:
    """All parts, from the folder to carry, in an environment that lacks what a bare machine lacks."""
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "sitecustomize.py").write_text(f"import sys\nsys.modules.update(dict.fromkeys({ABSENT!r}))\n")
    program = tmp_path / "check.py"
    program.write_text(  # the processes of the parts load it too, under another name
        "import pathlib\n"
        "from benchmarks import decoding, training\n"
        "from benchmarks.gpu import __main__ as gpu, agreement, attention, throughput\n"
        f"gpu.KEPT = pathlib.Path({str(tmp_path / 'kept')!r})\n"
        f"gpu.PACK = pathlib.Path({str(tmp_path / 'pack')!r})\n"
        "from pipelines.train.presets.shared import SMOKE\n"
        "agreement.KINDS = [('prefix', 'item', 'item')]\n"
        "throughput.SIDES = dict(list(throughput.SIDES.items())[:2])\n"
        "SMOKE |= {'steps': 100, 'validations': 1}\n"
        "training.reference = decoding.reference = lambda device, batch: lambda: 1\n"
        "attention.MICRO_TOKENS = {'cpu': 300}\n"
        "if __name__ == '__main__':\n"
        "    gpu.main()\n"
    )
    pack.pack(beauty.dataset("beauty"), tmp_path / "pack", Silent())
    environment = {
        **{key: value for key, value in os.environ.items() if key != "MASKGR_WORKSPACE"},
        "PYTHONPATH": f"{blocked}{os.pathsep}{ROOT}",
        "OUT": str(tmp_path / "out"),
    }
    command = [sys.executable, str(program), "--device", "cpu", "--preset", "smoke", "--users", "20"]
    command += ["--seconds", "0.01", "--total-minutes", "600"]
    done = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    (written,) = (tmp_path / "out").iterdir()
    assert written.stat().st_size < 1_000_000
    parts = json.loads(written.read_text("utf-8"))["parts"]
    assert {part["state"] for part in parts.values()} == {"finished"}
    ways = parts["attention"]["results"]
    assert ways["smoke: padded groups"]["off"] == 0
    assert ways["smoke: FlexAttention"]["agrees"]
    assert "error" in ways["smoke: variable length"]  # it needs a GPU
    trained = parts["train smoke"]["results"]
    assert (trained["training"]["state"], trained["training"]["steps"]) == ("finished", 100)
    assert trained["schedule"]["of the preset"] == 100
    assert trained["test"]["recall@10"] > 50
    assert trained["test"]["users"] == 200
    assert max(v["recall@10"] for v in trained["training"]["validations"]) == pytest.approx(
        trained["training"]["best"]["recall@10"], rel=1e-5
    )
    fastest = parts["throughput"]["results"]["fastest"]
    assert trained["settings"]["compiled"] == fastest["compiled"] * (fastest["times the eager speed"] >= 1.15)


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
    sides = {throughput.EAGER: throughput.Side(), "compiled": throughput.Side(compiled=("transform",))}
    monkeypatch.setattr(throughput, "SIDES", sides)
    monkeypatch.setattr(throughput, "ON_CPU", {"batch_size": 16})
    monkeypatch.setattr(torch, "compile", _broken)
    monkeypatch.setattr(training, "REFERENCE_BATCH", 16)
    monkeypatch.setattr(throughput.decoding, "REFERENCE_BATCH", 16)
    before = throughput.Block.transform
    results: dict[str, Any] = {}
    conditions = Conditions("cpu", "smoke", 0.01, 20, time.monotonic() + PATIENCE)
    throughput.measure(conditions, results.__setitem__)
    assert throughput.Block.transform is before
    assert results["training: compiled"] == {"error": "RuntimeError: no compiler"}
    eager = results[f"training: {throughput.EAGER}"]
    assert eager["share"] == pytest.approx(eager["TFLOP/s"] / eager["products alone, TFLOP/s"])
    assert results[f"training: {throughput.REFERENCE}"]["sequences/s"] > 0
    assert {results[f"evaluation: {name}"]["users"] for name in ("T = H", "T = 1")} == {20}
    assert results["fastest"]["side"] == throughput.EAGER
    assert [gpu.figure(value) for value in (22363, 0.04971, None, "no compiler")] == [
        "22,363",
        "0.0497",
        None,
        "no compiler",
    ]


@pytest.mark.parametrize("speed", [1.1, 1.2])
def test_a_training_takes_what_was_measured_to_be_fastest(speed: float) -> None:
    settings = {"micro_tokens": 131_072}
    best = {"settings": settings, "compiled": ["transform"], "times the eager speed": speed}
    conditions = Conditions("cpu", "paper", 1.0, 0, 0.0, throughput={"preset": "paper", "fastest": best})
    compiled = ["transform"] if speed > 1.15 else []
    assert gpu_training.fastest(conditions, "paper") == (settings, compiled)
    assert gpu_training.fastest(conditions, "small") == ({}, [])
    again = dataclasses.replace(conditions, failed_before=True)
    assert gpu_training.fastest(again, "paper") == ({}, [])


@pytest.mark.parametrize("streams", [1, 2])
@pytest.mark.parametrize("per_item", [1, 3])
def test_the_ways_of_attention_agree(streams: int, per_item: int) -> None:
    lengths = -np.sort(-np.random.default_rng(0).integers(1, 12, 40))
    packed = attention.Packed("small", 2, 32, streams, per_item, lengths)
    assert packed.sizes.sum() > attention.BLOCK
    figures = attention.compare(packed, attention.WAYS["FlexAttention"], CPU)
    assert figures["off"] < 1e-5


def test_what_is_carried_is_refused_beyond_its_size(
    beauty: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "pack"
    size = pack.pack(beauty.dataset("beauty"), target, Silent())
    assert size == sum(file.stat().st_size for file in target.glob("datasets/**/*.parquet"))
    monkeypatch.setattr(pack, "MOST_BYTES", size - 1)
    with pytest.raises(UserError, match="more than 0 MiB: items.parquet"):
        pack.pack(beauty.dataset("beauty"), tmp_path / "other", Silent())
    assert not (tmp_path / "other").exists()


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
