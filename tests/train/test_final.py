"""Final runs: the settings of a validated run, on whole sequences."""

from __future__ import annotations

import dataclasses
import json
import signal
from typing import Any

import pytest
from safetensors.torch import load_file

from pipelines import artifacts
from pipelines.decode.config import Decoding
from pipelines.errors import UserError
from pipelines.evaluate.compare import check_comparable_runs
from pipelines.evaluate.config import EvalConfig
from pipelines.evaluate.diagnose import diagnose_run
from pipelines.evaluate.run import evaluate_run
from pipelines.inventory import overview
from pipelines.models.item_models.config import SASRecConfig
from pipelines.models.registry import MODELS
from pipelines.train import loop
from pipelines.train.config import TrainConfig
from pipelines.train.derived import budget_steps, final_plan
from pipelines.train.existing import find_unfinished
from pipelines.train.plan import Final, Plan
from pipelines.train.run import train_run
from pipelines.workspace import Run, Workspace
from tests.conftest import ListProgress
from tests.train.conftest import plan
from tests.train.test_leakage import data, figures, plan_of, same_state, write_sequences

__all__ = ["data"]  # a fixture
LAST = {"sasrec", "bert4rec", "maskgr-items", "dreamrec", "cadirec", "maskgr", "rpg"}  # take --windows last


@pytest.fixture(autouse=True)
def every_step_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "RECORD_EVERY", 1)


def train_final(workspace: Workspace, run: Run, progress: ListProgress, **options: Any) -> Run:
    options = {"name": f"{run.name}-final", **options}
    return train_run(workspace, final_plan(workspace, run), progress, **options)


def read(run: Run) -> dict[str, Any]:
    return json.loads(run.config.read_text())


def rows(workspace: Workspace) -> list[list[int]]:
    path = workspace.require_dataset().sequences
    return artifacts.read(path, "sequences")["items"].to_pylist()


@pytest.mark.parametrize(
    ("model", "horizon"), [*((model, 1) for model in MODELS), ("maskgr", 2)], ids=lambda value: str(value)
)
def test_the_last_item_of_one_user_decides_the_weights(
    data: Workspace, progress: ListProgress, model: str, horizon: int
) -> None:
    """With windows of the last items. An ordinary run does not see it."""
    schedule = {"steps": 2, "validations": 1, "batch_size": 1000, "horizon": horizon}
    plan = plan_of(data, model, {}, {**schedule, **({"windows": "last"} if model in LAST else {})})
    run = train_run(data, plan, progress, name="run")
    first = train_final(data, run, progress)
    assert read(first)["steps"] == (1 if plan.model_settings.is_counted else 2)
    sequences = rows(data)
    sequences[7][-1] = (sequences[7][-1] + 1) % 60
    write_sequences(data, sequences)
    again = train_run(data, plan, progress, name="again")
    assert same_state(run, again)
    assert not same_state(first, train_final(data, again, progress))


@pytest.fixture
def run(toy: Workspace, sids: str, progress: ListProgress, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run whose second validation of three is the best: after step 8 of 12."""
    recalls = iter((0.1, 0.3, 0.2) * 9)
    monkeypatch.setattr("pipelines.train.validation.Validator.recall", lambda _: next(recalls))
    return train_run(toy, plan(sids), progress, name="run")


def test_it_takes_the_best_steps_of_the_settings(toy: Workspace, run: Run, progress: ListProgress) -> None:
    """Its learning rates are those of the run, which keeps its whole budget; nothing is validated."""
    final = train_final(toy, run, progress)
    config = read(final)
    assert config["final"] == {"of": "run", "steps": 8, "weights": artifacts.digest(run.weights)}
    assert (config["state"], config["steps"], config["best"]) == ("finished", 8, None)
    rates = figures(run, "learning_rate")
    assert figures(final, "learning_rate") == rates[:8] and len(rates) == 12
    assert not figures(final, "recall@10")
    assert (
        "Whole sequences, no validation: the training ends after step 8, the best of run."
        in progress.messages
    )
    weights, state = load_file(final.weights), load_file(final.state)
    assert all((state[f"model.{name}"] == tensor).all() for name, tensor in weights.items())  # the last ones
    assert train_final(toy, run, progress) == final
    assert "is trained already" in progress.messages[-1]
    shown = {view.name: view for view in overview(toy).runs}
    assert shown["run-final"].config["final"]["of"] == "run" and shown["run-final"].stale is None


def test_it_is_the_training_of_a_run_whose_users_took_two_items_more(
    toy: Workspace, sids: str, run: Run, progress: ListProgress
) -> None:
    """The same weights to the last bit: those of step 8 of 12, at the learning rates of twelve steps."""
    final = train_final(toy, run, progress)
    write_sequences(toy, [[*row, 0, 0] for row in rows(toy)])
    longer = train_run(toy, plan(sids), progress, name="longer")
    assert read(longer)["best"]["step"] == 8
    assert final.weights.read_bytes() == longer.weights.read_bytes()


def test_an_interrupted_one_is_resumed(
    toy: Workspace, run: Run, progress: ListProgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train_final(toy, run, progress, name="whole")
    step = loop.Trainer.training_step

    def interrupted(self: loop.Trainer, number: int, *rest: object) -> Any:
        if number == 5:
            signal.raise_signal(signal.SIGINT)
        return step(self, number, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Trainer, "training_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train_final(toy, run, progress)
    assert toy.final_of(run) == whole  # the other one is not finished
    unfinished, found = find_unfinished(toy, None)
    assert (unfinished.name, found) == ("run-final", final_plan(toy, run))
    halves = train_run(toy, found, progress, name=unfinished.name, existing="resume")
    assert same_state(whole, halves) and whole.weights.read_bytes() == halves.weights.read_bytes()
    assert toy.final_of(run) == halves


def test_it_belongs_to_one_training_of_its_run(
    toy: Workspace, sids: str, run: Run, progress: ListProgress
) -> None:
    assert toy.final_of(run) is None and toy.outdated_final_of(run) is None
    final = train_final(toy, run, progress)
    assert toy.final_of(run) == final and toy.outdated_final_of(run) is None
    assert toy.final_of(final) is None
    config = read(final)
    other = {**config["inputs"], "sequences": {"path": "sequences.parquet", "sha256": "0" * 64}}
    artifacts.write_json(final.config, {**config, "inputs": other})
    assert toy.final_of(run) is None and toy.outdated_final_of(run) == final
    artifacts.write_json(final.config, config)
    train_run(toy, plan(sids, seed=1), progress, name="run", existing="replace")
    assert toy.final_of(run) is None and toy.outdated_final_of(run) == final
    stale = {view.name: view.stale for view in overview(toy).runs}
    assert stale == {"run": None, "run-final": "run was trained again"}
    with pytest.raises(UserError, match=r"run-final was made from an earlier training of run\. .* --force"):
        train_final(toy, run, progress)
    train_final(toy, run, progress, existing="replace")
    assert toy.final_of(run) == final


def test_it_is_not_measured(toy: Workspace, run: Run, progress: ListProgress) -> None:
    final = train_final(toy, run, progress)
    for measure in (
        lambda: evaluate_run(toy, final, EvalConfig(Decoding()), progress),
        lambda: diagnose_run(toy, final, EvalConfig(), progress),
        lambda: check_comparable_runs([run, final], None),
    ):
        with pytest.raises(
            UserError, match=r"run-final is a final run: its training saw .*: maskgr eval run$"
        ):
            measure()


def test_what_is_no_finished_run_is_refused(
    toy: Workspace, sids: str, run: Run, progress: ListProgress
) -> None:
    final = train_final(toy, run, progress)
    with pytest.raises(UserError, match="run-final is a final run already, of run"):
        final_plan(toy, final)
    config = read(run)
    for state, message in (("interrupted", "train --resume --name run$"), ("diverged", "run diverged")):
        artifacts.write_json(run.config, {**config, "state": state})
        with pytest.raises(UserError, match=message):
            final_plan(toy, run)
    artifacts.write_json(run.config, {**config, "weights": "0" * 64})
    with pytest.raises(UserError, match="does not hold the weights"):
        final_plan(toy, run)
    artifacts.write_json(run.config, config)
    sequences = toy.require_dataset().sequences
    table = artifacts.read(sequences, "sequences")
    artifacts.write(sequences, "sequences", table.slice(0, 100), config={})
    with pytest.raises(UserError, match="trained on other sequences .* maskgr train --final run"):
        final_plan(toy, run)


@pytest.mark.parametrize(
    ("options", "done", "seconds", "expected"),
    [
        ({"steps": 100}, 40, 9.0, 100),  # ended by patience
        ({"steps": None, "minutes": 1.0}, 40, 59.0, 41),
        ({"steps": None, "minutes": 1.0}, 40, 30.0, 80),  # ended by patience, at half of the minutes
        ({"steps": 400, "minutes": 1.0}, 40, 59.9, 40),
        ({"steps": 40, "minutes": 1.0}, 40, 20.0, 40),
    ],
)
def test_a_budget_of_minutes_amounts_to_steps(
    sids: str, options: dict[str, Any], done: int, seconds: float, expected: int
) -> None:
    assert budget_steps(plan(sids, **options), {"steps": done, "seconds": seconds}) == expected


def test_ordinary_plans_keep_their_names(sids: str) -> None:
    """The digest in a name is one of the settings that the first version of a plan had."""
    sasrec = Plan("shop", None, "sasrec", "small", SASRecConfig(), TrainConfig(steps=1))
    assert sasrec.name == "shop-sasrec-small-ceb10c"
    ordinary = plan(sids)
    assert "final" not in ordinary.to_dict()
    assert Plan.from_dict(ordinary.to_dict()) == ordinary
    final = dataclasses.replace(ordinary, final=Final("run", "0", 3))
    assert Plan.from_dict(final.to_dict()) == final
