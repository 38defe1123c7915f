"""A training whose numbers are no longer finite ends there, says so, and keeps what was good."""

from __future__ import annotations

import dataclasses
import json
import math
import signal
import subprocess
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pipelines import artifacts
from pipelines.ablate.engine import run_job
from pipelines.ablate.job import Job
from pipelines.decode.config import Decoding
from pipelines.errors import TrainingDiverged, UserError
from pipelines.evaluate.config import EvalConfig
from pipelines.evaluate.run import evaluate_run
from pipelines.models.registry import MODELS, model_config
from pipelines.train import loop
from pipelines.train.config import TrainConfig
from pipelines.train.configure import configure
from pipelines.train.existing import find_unfinished
from pipelines.train.run import train_run
from pipelines.train.spaces import Choices
from pipelines.train.tune import best_values, tune
from pipelines.workspace import Run, Workspace
from tests.conftest import ListProgress
from tests.train.conftest import plan

STEP = loop.Trainer.training_step


def nan_loss(trainer: loop.Trainer) -> None:
    forward = trainer.unwrapped_model.forward
    trainer.model.forward = lambda *given: forward(*given) * math.nan


def infinite_gradient(trainer: loop.Trainer) -> None:
    next(trainer.unwrapped_model.parameters()).register_hook(lambda gradient: gradient + math.inf)


def infinite_weight(trainer: loop.Trainer) -> None:
    trainer.optimizers[0].optimizer.register_step_post_hook(
        lambda *_: next(trainer.unwrapped_model.parameters()).data.fill_(math.inf)
    )


def break_at(monkeypatch: pytest.MonkeyPatch, at: int, fault: Callable[[loop.Trainer], None]) -> None:
    """From step `at` on (the first is 0) something is not finite."""

    def broken(self: loop.Trainer, number: int, *rest: Any) -> Any:
        if number == at:
            fault(self)
        return STEP(self, number, *rest)

    monkeypatch.setattr(loop.Trainer, "training_step", broken)


def state_of(run: Run) -> dict[str, Any]:
    return json.loads(run.config.read_text())


@pytest.mark.parametrize(
    ("fault", "at", "clip", "said"),
    [
        (nan_loss, 6, 1.0, "the loss or its gradient is not finite at step 7"),
        (infinite_gradient, 5, 1.0, "the loss or its gradient is not finite at step 6"),
        (infinite_gradient, 5, 0.0, "the loss or its gradient is not finite at step 6"),
        (infinite_weight, 7, 1.0, "weights are not finite after step 8"),  # the last step before a validation
    ],
)
def test_it_stops_and_keeps_the_last_good_weights(
    toy: Workspace,
    sids: str,
    progress: ListProgress,
    monkeypatch: pytest.MonkeyPatch,
    fault: Callable[[loop.Trainer], None],
    at: int,
    clip: float,
    said: str,
) -> None:
    """Validations are due after steps 4, 8 and 12; losses are looked at every 20 steps, but also before each
    validation.
    """
    run, kept = toy.run("run"), {}
    checkpoint = loop.Trainer.validate

    def keep(self: loop.Trainer, validate: Callable[[], float]) -> bool:
        kept["validated"] = self.state.step
        return checkpoint(self, validate)

    monkeypatch.setattr(loop.Trainer, "validate", keep)
    break_at(monkeypatch, at, fault)
    with pytest.raises(TrainingDiverged) as error:
        train_run(toy, plan(sids, grad_clip=clip), progress, name="run")
    assert f"run diverged: {said}; the weights of step 4, the best so far (validation Recall@10 " in str(
        error.value
    )
    assert "Lower --learning-rate (0.01)" in str(error.value)
    assert ("--grad-clip 1" in str(error.value)) == (clip == 0)
    assert kept["validated"] == 4
    assert (state_of(run)["state"], state_of(run)["best"]["step"]) == ("diverged", 4)
    history = artifacts.read(run.history, "history").to_pylist()
    assert {row["step"] for row in history} == {1, 4}
    assert all(math.isfinite(row["value"]) for row in history)
    for file in (run.weights, run.state):
        assert all(bool(tensor.isfinite().all()) for tensor in load_file(file).values())
    monkeypatch.undo()
    assert evaluate_run(toy, run, EvalConfig(Decoding(beams=10)), progress).metrics.num_rows
    for again in (
        lambda: find_unfinished(toy, "run"),
        lambda: train_run(toy, plan(sids, grad_clip=clip), progress, name="run", existing="resume"),
    ):
        with pytest.raises(UserError, match="diverged at step 8, and would again. Lower --learning-rate"):
            again()
    with pytest.raises(UserError, match="every run in .* is finished or diverged"):
        find_unfinished(toy, None)
    assert (
        state_of(train_run(toy, plan(sids), progress, name="run", existing="replace"))["state"] == "finished"
    )


def test_a_stop_between_the_fault_and_its_notice_saves_nothing(
    toy: Workspace, sids: str, progress: ListProgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(trainer: loop.Trainer) -> None:
        nan_loss(trainer)
        trainer.optimizers[0].optimizer.register_step_post_hook(lambda *_: signal.raise_signal(signal.SIGINT))

    break_at(monkeypatch, 2, fault)
    with pytest.raises(
        TrainingDiverged, match="at step 3; there was no validation before, so no weights are kept"
    ):
        train_run(toy, plan(sids), progress, name="run")
    assert not toy.run("run").state.exists()
    assert not toy.run("run").weights.exists()


def test_processes_agree_and_end_with_code_1_and_one_line(
    toy: Workspace, maskgr: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = maskgr(
        "train",
        "--model",
        "sasrec",
        "--preset",
        "smoke",
        "--learning-rate",
        "1e9",
        "--name",
        "hot",
        "--processes",
        2,
    )
    assert done.returncode == 1
    assert done.stderr.count("error: hot diverged: ") == 1
    assert "fault of maskgr" not in done.stderr and "Traceback" not in done.stderr
    assert state_of(toy.run("hot"))["state"] == "diverged"


def test_a_study_goes_on_and_a_grid_notes_why(
    toy: Workspace, sids: str, progress: ListProgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_at(monkeypatch, 1, nan_loss)
    looks = iter([0.0, 0.0, 1e9])  # one trial begins in the study's time, a second does not
    monkeypatch.setattr("pipelines.train.tune.time", SimpleNamespace(monotonic=lambda: next(looks)))
    path = tune(toy, lambda values: plan(sids, **values), {"layers": Choices((1, 2))}, "study", 1, progress)
    assert {row["state"] for row in artifacts.read(path, "trials").to_pylist()} == {"fail"}
    with pytest.raises(UserError, match="no finished trial"):
        best_values(path)
    monkeypatch.undo()
    break_at(monkeypatch, 1, nan_loss)
    run_job(toy, Job("cell", plan(sids), "test", {"key": (Decoding(beams=10), False)}), progress)
    assert (
        "cell diverged: the loss or its gradient is not finite at step 2"
        in artifacts.read_json(toy.run_result("key"))["reason"]
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused_at_the_door(value: float) -> None:
    configs = {model: configure(model, "small", {}) for model in MODELS}
    for model_settings, schedule in configs.values():
        for config in (model_settings, schedule):
            for field in dataclasses.fields(config):
                if "float" in str(field.type):
                    with pytest.raises(
                        UserError, match=f"--{field.name.replace('_', '-')} is {value}; it must be between"
                    ):
                        dataclasses.replace(config, **{field.name: value})
    with pytest.raises(UserError, match="--dropout is nan"):
        model_config("maskgr", {"dropout": math.nan})
    with pytest.raises(UserError, match="--learning-rate is inf"):
        TrainConfig(steps=1, learning_rate=torch.inf)
