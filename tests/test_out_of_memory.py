"""Exhausted memory is one line with the options to lower and exit code 2; what was saved before is kept."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from maskgr_cli.app import main
from pipelines.errors import UserError, enough_memory, is_out_of_memory
from pipelines.train.loop import Trainer
from pipelines.workspace import Workspace

HOST = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
    "allocate 4 bytes. Error code 12 (Cannot allocate memory)"
)
GPU = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
TRAINING = ("--preset", "smoke", "--steps", "12", "--validations", "3", "--name", "run")


@pytest.fixture
def run(toy: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Return a function that runs a command line in this process: its exit code and its last error line."""
    monkeypatch.setenv("MASKGR_WORKSPACE", str(toy.root))
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    for command in ("train", "eval", "recommend"):
        monkeypatch.setattr(f"maskgr_cli.commands.{command}.keep_freed_memory", lambda: None)

    def command(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["maskgr", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        return int(ended.value.code or 0), lines[-1].removeprefix("error: ") if lines else ""

    return command


def failing(error: BaseException) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize("error", [HOST, GPU, MemoryError(), np.exceptions.AxisError("x"), ValueError("y")])
def test_errors_of_memory_are_told_from_others(error: Exception) -> None:
    exhausted = error is HOST or error is GPU or isinstance(error, MemoryError)
    assert is_out_of_memory(error) == exhausted
    place = "GPU's memory" if error is GPU else "memory"
    with pytest.raises(UserError if exhausted else type(error)) as raised, enough_memory("do it", "Lower x."):
        raise error
    if exhausted:
        assert str(raised.value) == f"The {place} is too small to do it. Lower x."


def test_a_training_keeps_what_it_saved_and_can_be_resumed(
    toy: Workspace, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Trainer.training_step

    def at_seven(self: Trainer, number: int, *rest: Any) -> Any:
        if number == 6:
            raise GPU
        return step(self, number, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "training_step", at_seven)
        code, message = run("train", *TRAINING)
    assert code == 2
    begin = "The GPU's memory is too small to train run. Lower --micro-tokens (2,048 on a CPU, 32,768 on a "
    end = "GPU), --width (32), or --layers (1), and train again with --force. What was saved before is kept"
    assert message.startswith(begin + end)
    assert toy.run("run").weights.exists()
    assert json.loads(toy.run("run").config.read_text("utf-8"))["steps"] == 4
    assert run("train", "--resume", "--name", "run") == (0, "")
    assert json.loads(toy.run("run").config.read_text("utf-8"))["state"] == "finished"
    with monkeypatch.context() as patched:
        patched.setattr("pipelines.evaluate.recommend.Search.__call__", failing(HOST))
        assert run("eval", "run", "--tokens", "999") == (
            2,
            "The memory is too small to evaluate the run. Lower --tokens (999) or --beams (20).",
        )
        assert run("recommend", "run", "--sample", "2", "--beams", "30") == (
            2,
            "The memory is too small to recommend. Lower --beams (30), or recommend to fewer users at a "
            "time.",
        )


def test_other_commands(toy: Workspace, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.embed.build.build_embeddings", failing(MemoryError()))
    assert run("embed") == (2, "The memory is too small to embed toy. Lower --dimensions.")
    monkeypatch.setattr("pipelines.tokenize.build.build_sids", failing(HOST))
    code, message = run("tokenize", "--method", "random")
    assert (code, message.split(".")[0]) == (2, "The memory is too small for this command")
