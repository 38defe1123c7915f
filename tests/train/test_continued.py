"""Runs that continue another one on a data set that has grown."""

from __future__ import annotations

import dataclasses
import json
import signal
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
from pipelines.train.config import CONTINUED_RATE, CONTINUED_STEPS
from pipelines.train.derived import continued_plan, final_plan
from pipelines.train.existing import find_unfinished
from pipelines.train.run import train_run
from pipelines.workspace import Run, Workspace
from tests.conftest import ListProgress
from tests.models.test_every_model import LEARNED
from tests.train.conftest import append_interactions, grow_items, plan, write_rows
from tests.train.test_leakage import data, plan_of, same_state, write_sequences

__all__ = ["data"]  # a fixture
SOFTMAX = {"tokens": "item", "likelihood": "item", "attention": "prefix", "item_embeddings": True}


def grow(workspace: Workspace, sids: str | None) -> None:
    """Five new items, an interaction more of each of two old users, and three new users."""
    grow_items(workspace, sids)
    append_interactions(workspace, [[60, 61, 62, 63], [1, 2, 3, 64], [61, 62, 63, 64, 5]], [64, 60])


def go_on(workspace: Workspace, run: Run, progress: ListProgress, **settings: Any) -> Run:
    return train_run(workspace, continued_plan(run, settings), progress, name=f"{run.name}-continued")


def read(run: Run) -> dict[str, Any]:
    return json.loads(run.config.read_text())


@pytest.fixture
def run(toy: Workspace, sids: str, progress: ListProgress) -> Run:
    return train_run(toy, plan(sids, steps=20, **SOFTMAX), progress, name="run")


@pytest.mark.parametrize("model", LEARNED)
def test_every_model_goes_on(
    data: Workspace, progress: ListProgress, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before its first step it has the weights of the run; afterwards others, and it is evaluated."""
    plan = plan_of(data, model, {}, {"steps": 2, "validations": 1})
    first = train_run(data, plan, progress, name="run")
    grow(data, plan.sids)
    begun: dict[str, torch.Tensor] = {}
    step = loop.Trainer.training_step

    def recorded(self: loop.Trainer, number: int, *rest: object) -> Any:
        begun.update({} if begun else {k: v.clone() for k, v in self.unwrapped_model.state_dict().items()})
        return step(self, number, *rest)

    monkeypatch.setattr(loop.Trainer, "training_step", recorded)
    second = go_on(data, first, progress, steps=3)
    old, new = load_file(first.weights), load_file(second.weights)
    for name, tensor in old.items():
        grown = tensor.shape != begun[name].shape
        same = (begun[name][:60], tensor[:60]) if grown else (begun[name], tensor)
        torch.testing.assert_close(*same, rtol=0, atol=0)
    assert any(not torch.equal(new[name], begun[name]) for name in new)
    evaluate_run(data, second, EvalConfig(Decoding(beams=5)), progress)
    config = read(second)
    assert (config["state"], config["steps"], config["items"]) == ("finished", 3, 65)


def test_defaults_are_shares_of_the_first_run(
    toy: Workspace, sids: str, run: Run, progress: ListProgress
) -> None:
    """Of a run that continues a continued run too, so that they do not shrink from night to night."""
    grow(toy, sids)
    second = go_on(toy, run, progress)
    config = read(second)
    assert config["continued"] == {
        "of": "run",
        "weights": artifacts.digest(run.weights),
        "first_steps": 20,
        "first_rate": 0.01,
    }
    assert config["steps"] == config["train"]["steps"] == round(20 * CONTINUED_STEPS)
    assert config["train"]["learning_rate"] == 0.01 * CONTINUED_RATE
    assert "; 5 items are new." in " ".join(progress.messages)
    third = read(go_on(toy, second, progress))
    assert third["continued"]["of"] == "run-continued" and third["train"] == config["train"]
    other = continued_plan(second, {"steps": 7, "learning_rate": 0.5, "minutes": 2.0}).train
    assert (other.steps, other.learning_rate, other.minutes) == (7, 0.5, 2.0)


def test_an_interrupted_one_is_resumed(
    toy: Workspace, sids: str, run: Run, progress: ListProgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It needs the run that it continues only to begin."""
    grow(toy, sids)
    whole = train_run(toy, continued_plan(run, {"steps": 6}), progress, name="whole")
    step = loop.Trainer.training_step

    def interrupted(self: loop.Trainer, number: int, *rest: object) -> Any:
        if number == 3:
            signal.raise_signal(signal.SIGINT)
        return step(self, number, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Trainer, "training_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            go_on(toy, run, progress, steps=6)
    run.weights.unlink()
    unfinished, found = find_unfinished(toy, None)
    assert unfinished.name == "run-continued" and found.continued is not None
    assert same_state(whole, train_run(toy, found, progress, name=unfinished.name, existing="resume"))


def test_a_final_run_is_continued_on_whole_sequences(
    toy: Workspace, sids: str, run: Run, progress: ListProgress
) -> None:
    final = train_run(toy, final_plan(toy, run), progress, name="run-final")
    grow(toy, sids)
    second = go_on(toy, final, progress, steps=3, batch_size=1000)
    config = read(second)
    assert (config["steps"], config["best"], config["final"]["steps"]) == (3, None, 3)
    with pytest.raises(UserError, match="run-final-continued is a final run"):
        evaluate_run(toy, second, EvalConfig(Decoding()), progress)
    path = toy.require_dataset().sequences
    rows = artifacts.read(path, "sequences")["items"].to_pylist()
    rows[-1][-1] = 9
    write_sequences(toy, rows)
    settings = {"steps": 3, "batch_size": 1000}
    other = train_run(toy, continued_plan(final, settings), progress, name="other")
    assert not same_state(second, other)
    assert toy.final_of(run) == final and toy.outdated_final_of(run) is None


def test_a_continued_run_has_a_final_run(toy: Workspace, sids: str, run: Run, progress: ListProgress) -> None:
    """It begins with the weights that the continued run began with."""
    grow(toy, sids)
    second = go_on(toy, run, progress, steps=6, validations=1)
    final = train_run(toy, final_plan(toy, second), progress, name="run-continued-final")
    config = read(final)
    assert config["continued"] == read(second)["continued"] and config["final"]["of"] == "run-continued"
    assert toy.final_of(second) == final and toy.final_of(run) is None and toy.outdated_final_of(run) is None


def test_it_can_replace_the_run(toy: Workspace, sids: str, run: Run, progress: ListProgress) -> None:
    """A nightly refresh under one name."""
    grow(toy, sids)
    for night in (1, 2):
        plan = continued_plan(run, {"steps": 3, "seed": night})
        train_run(toy, plan, progress, name="run", existing="replace")
        assert read(run)["continued"] == {**dataclasses.asdict(plan.continued)}
    assert evaluate_run(toy, run, EvalConfig(Decoding(beams=5)), progress).metrics.num_rows


def test_what_does_not_fit_is_refused(toy: Workspace, sids: str, run: Run, progress: ListProgress) -> None:
    grow(toy, sids)
    config, plan = read(run), continued_plan(run, {})
    artifacts.write_json(run.config, {**config, "state": "interrupted"})
    with pytest.raises(UserError, match="train --resume --name run$"):
        continued_plan(run, {})
    artifacts.write_json(run.config, config)
    other = dataclasses.replace(plan, continued=dataclasses.replace(plan.continued, weights="0" * 64))
    with pytest.raises(UserError, match="run was trained again. Begin with: maskgr train --continue run"):
        train_run(toy, other, progress, name="second")
    path = toy.require_dataset().sids(sids)
    codes = artifacts.matrix(artifacts.read(path, "sids"), "sid", path).copy()
    codes[[0, 1]] = codes[[1, 0]]
    write_rows(path, "sids", codes, artifacts.provenance(path)["config"])
    with pytest.raises(UserError, match="run was trained on other sids than"):
        train_run(toy, plan, progress, name="second")
    assert not toy.run("second").path.exists()
