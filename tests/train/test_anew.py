"""A training that starts again takes nothing away until it is finished."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pipelines import artifacts
from pipelines.decode.config import Decoding
from pipelines.errors import UserError
from pipelines.evaluate.config import EvalConfig
from pipelines.evaluate.run import evaluate_run
from pipelines.train import loop
from pipelines.train import run as training
from pipelines.train.existing import find_unfinished
from pipelines.train.run import train_run
from pipelines.workspace import Run, Workspace
from tests.conftest import ListProgress
from tests.train.conftest import plan


def contents(run: Run) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run.path.iterdir() if path.is_file()}


@pytest.fixture
def trained(toy: Workspace, sids: str, progress: ListProgress) -> Run:
    return train_run(toy, plan(sids), progress, name="run")


class Killed(BaseException):
    """Stands for a kill: nothing after it is run."""


def die(*_: object, **__: object) -> Any:
    raise Killed


@pytest.mark.parametrize("moment", ["start", "step", "description", "move"])
def test_a_finished_run_outlives_a_killed_training_anew(
    toy: Workspace,
    sids: str,
    trained: Run,
    progress: ListProgress,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
) -> None:
    """Until the new training is finished the old one is evaluated; then the new one, which `--resume` brings
    to its end.
    """
    whole, before = train_run(toy, plan(sids, seed=1), progress, name="whole"), contents(trained)
    step = loop.Trainer.training_step

    def interrupted(self: loop.Trainer, number: int, *rest: object) -> tuple[torch.Tensor, int]:
        return die() if number == 10 else step(self, number, *rest)

    def begun(new: Path, folder: Path) -> None:
        new.rename(folder.with_name(f".{folder.name}.ready"))
        die()

    with monkeypatch.context() as patch:
        patch.setattr(
            *{
                "start": (training, "announce", die),
                "step": (loop.Trainer, "training_step", interrupted),
                "description": (training, "install", die),
                "move": (training, "install", begun),
            }[moment]
        )
        with pytest.raises(Killed):
            train_run(toy, plan(sids, seed=1), progress, name="run", existing="replace")
    assert contents(trained) == before
    assert evaluate_run(toy, trained, EvalConfig(Decoding(beams=5)), progress).metrics.num_rows
    place = Workspace.find(toy.root)
    if moment in ("step", "description"):
        assert train_run(place, plan(sids), progress, name="run") == trained
        assert (
            progress.messages[-1]
            == "A new training was interrupted. Continue it with: maskgr train --resume --name run"
        )
        run, found = find_unfinished(place, None)
        assert (run.name, found) == ("run", plan(sids, seed=1))
        train_run(place, found, progress, name=run.name, existing="resume")
    if moment == "start":
        train_run(place, plan(sids, seed=1), progress, name="run", existing="replace")
    assert json.loads(trained.config.read_text())["train"]["seed"] == 1
    assert sorted(path.name for path in (toy.root / "runs").iterdir()) == ["run", "whole"]
    one, two = load_file(whole.weights), load_file(trained.weights)
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-4, atol=1e-6)
    assert artifacts.stale(trained.history) is None


def test_a_finished_run_names_its_weights(
    toy: Workspace, sids: str, trained: Run, progress: ListProgress
) -> None:
    other = train_run(toy, plan(sids, seed=1), progress, name="other")
    trained.weights.write_bytes(other.weights.read_bytes())
    with pytest.raises(
        UserError, match=r"model.safetensors are not the weights that .*config.json records.*train --force"
    ):
        evaluate_run(toy, trained, EvalConfig(Decoding(beams=5)), progress)
    trained.weights.unlink()
    with pytest.raises(
        UserError, match=r"model.safetensors does not exist, though the run is finished.*--force"
    ):
        train_run(toy, plan(sids), progress, name="run")


def test_an_interrupted_training_anew_is_the_newest_to_resume(
    toy: Workspace, sids: str, trained: Run, progress: ListProgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="nothing to resume"):
        find_unfinished(toy, None)
    monkeypatch.setattr(loop.Trainer, "training_step", die)
    for name, existing in (("other", "keep"), ("run", "replace")):
        with pytest.raises(Killed):
            train_run(toy, plan(sids), progress, name=name, existing=existing)
    assert find_unfinished(toy, None)[0] == trained.anew
    assert find_unfinished(toy, "other")[0].name == "other"
