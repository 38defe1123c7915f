"""The search for hyperparameters: begins with the preset, goes on where it stopped, gives up what is
hopeless; also in test_leakage.py.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines import artifacts
from pipelines.errors import UserError
from pipelines.formats import FORMAT_VERSION
from pipelines.models.item_models.config import SASRecConfig
from pipelines.models.registry import MODELS
from pipelines.train import tune as tuning
from pipelines.train.config import TrainConfig
from pipelines.train.configure import configure
from pipelines.train.plan import Plan
from pipelines.train.run import train_run
from pipelines.train.spaces import SPACES, Choices, FloatRange
from pipelines.train.tune import best_values, open_shared_study, open_study, space_of, tune
from pipelines.workspace import Workspace
from tests.conftest import ListProgress, write_toy

SPACE = {
    "dropout": FloatRange(0.0, 0.8),
    "layers": Choices((1, 2, 3)),
    "learning_rate": FloatRange(1e-4, 1e-1, log=True),
}


def plan_of(values: dict[str, Any]) -> Plan:
    return Plan("toy", None, "sasrec", "small", *configure("sasrec", "small", values))


class Trainer:
    """Stands in for training: the result is best at dropout 0.2 with three layers; validations grow towards
    it.
    """

    def __init__(self, fail_at: int | None = None) -> None:
        self.plans: list[Plan] = []
        self.fail_at = fail_at

    def __call__(
        self,
        workspace: Workspace,
        plan: Plan,
        progress: object,
        *,
        name: str,
        existing: str,
        should_prune: Any,
    ) -> None:
        self.plans.append(plan)
        if self.fail_at == len(self.plans):
            raise KeyboardInterrupt
        final = 0.5 - abs(plan.model_settings.dropout - 0.2) - 0.1 * (3 - plan.model_settings.layers)
        done = 0
        for done in (1, 2, 3):
            if should_prune(done, final * done / 3):
                break
        artifacts.write_json(
            workspace.run(name).config,
            {"format": FORMAT_VERSION, "best": {"recall@10": final * done / 3, "step": done}},
        )


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute passes at every look at the clock."""
    ticks = iter(range(0, 10**6, 60))
    monkeypatch.setattr(tuning, "time", SimpleNamespace(monotonic=lambda: next(ticks)))


def rows_of(path: Path) -> list[dict[str, Any]]:
    return artifacts.read(path, "trials").to_pylist()


def test_it_begins_with_the_preset_and_gets_better(
    workspace: Workspace, clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer()
    monkeypatch.setattr(tuning, "train_run", trainer)
    path = tune(workspace, plan_of, SPACE, "study", 31, ListProgress())
    assert trainer.plans[0] == plan_of({})
    assert len(trainer.plans) > 20
    recall, values = best_values(path)
    preset = next(row["recall"] for row in rows_of(path) if row["trial"] == 0)
    assert recall == max(row["recall"] for row in rows_of(path) if row["state"] == "complete") > preset
    assert recall > 0.4
    assert values["layers"] == "3"
    assert {row["state"] for row in rows_of(path)} == {"complete", "pruned"}
    assert not workspace.runs  # trials leave nothing behind


def test_the_preset_is_tried_though_it_lie_outside_the_space(
    workspace: Workspace, clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One layer is less than the space of maskgr has, and `whole_item` is not set."""
    trainer = Trainer()
    monkeypatch.setattr(tuning, "train_run", trainer)

    def smoke(values: dict[str, Any]) -> Plan:
        return Plan("toy", None, "maskgr", "smoke", *configure("maskgr", "smoke", values))

    tune(workspace, smoke, SPACES["maskgr"], "study", 2, ListProgress())
    drawn = trainer.plans[0].model_settings.whole_item
    assert drawn is not None
    assert trainer.plans[0] == smoke({"whole_item": drawn})


def test_what_a_killed_call_left_does_not_stop_the_next(
    workspace: Workspace, clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a line, the lock of the journal (which points to itself), a running trial and its run."""
    monkeypatch.setattr(tuning, "train_run", Trainer())
    tune(workspace, plan_of, SPACE, "study", 2, ListProgress())
    journal = workspace.study("study") / "journal.log"
    journal.write_bytes(journal.read_bytes() + b'{"op_code": 5, "worker')
    journal.with_name("journal.log.lock").symlink_to("journal.log")
    left = workspace.run("study-trial-0")
    artifacts.write_json(left.config, {})
    tune(workspace, plan_of, SPACE, "study", 2, ListProgress())
    assert not left.path.exists()
    assert not journal.with_name("journal.log.lock").is_symlink()
    assert {row["state"] for row in rows_of(workspace.study("study") / "trials.parquet")} == {"complete"}


def test_it_goes_on_where_it_stopped(
    workspace: Workspace, clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "train_run", Trainer(fail_at=3))
    with pytest.raises(KeyboardInterrupt):
        tune(workspace, plan_of, SPACE, "study", 10, ListProgress())
    again = Trainer()
    monkeypatch.setattr(tuning, "train_run", again)
    path = tune(workspace, plan_of, SPACE, "study", 4, ListProgress())
    trials = {row["trial"]: row["state"] for row in rows_of(path)}
    assert [trials[number] for number in (0, 1)] == ["complete"] * 2
    assert trials[2] == "fail"
    assert len(trials) == 3 + len(again.plans)
    assert again.plans[0] != plan_of({})
    with pytest.raises(UserError, match="study with other settings"):
        tune(workspace, plan_of, {"dropout": FloatRange(0.0, 0.5)}, "study", 1, ListProgress())


def test_values_that_do_not_go_together_are_a_failed_trial(
    workspace: Workspace, clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise UserError("--this does not go with --that")

    monkeypatch.setattr(tuning, "train_run", refuse)
    progress = ListProgress()
    path = tune(workspace, plan_of, SPACE, "study", 3, progress)
    assert any("--this does not go" in message for message in progress.messages)
    with pytest.raises(UserError, match="no finished trial"):
        best_values(path)


@pytest.mark.parametrize("model", MODELS)
def test_every_space_is_of_options_that_the_model_has(model: str) -> None:
    """The preset lies within its space, so that it can be the first trial."""
    model_settings, schedule = configure(model, "small", {})
    for option, where in SPACES[model].items():
        value = getattr(model_settings if hasattr(model_settings, option) else schedule, option)
        assert value in where.values if isinstance(where, Choices) else where.low <= value <= where.high
    assert space_of(model, {"dropout"}).keys() == SPACES[model].keys() - {"dropout"}
    with pytest.raises(UserError, match="leave one of"):
        space_of(model, set(SPACES[model]))


def test_a_training_ends_where_it_is_hopeless(toy: Workspace, progress: ListProgress) -> None:
    model_settings = SASRecConfig(layers=1, width=16, heads=2, mlp=32, max_items=8)
    plan = Plan(
        "toy",
        None,
        "sasrec",
        "test",
        model_settings,
        TrainConfig(steps=6, batch_size=64, validations=3, precision="fp32"),
    )
    told: list[tuple[int, float]] = []
    run = train_run(
        toy, plan, progress, should_prune=lambda number, recall: told.append((number, recall)) or number == 2
    )
    assert [number for number, _ in told] == [1, 2]
    found = artifacts.read_json(run.config)
    assert (found["steps"], found["state"]) == (4, "finished")
    assert found["best"]["recall@10"] == max(recall for _, recall in told)


@pytest.mark.parametrize("spoilt", [b'{"op_code": 4', b"\xff\n", b'{"op_code": 99}\n', b"[]\n", b"null\n"])
def test_a_spoilt_journal_is_refused(tmp_path: Path, spoilt: bytes) -> None:
    study = open_study(tmp_path, "study")
    study.tell(study.ask(), 0.5)
    assert len(open_study(tmp_path, "study").trials) == 1
    journal = tmp_path / "journal.log"
    journal.write_bytes(spoilt + b"\n" + journal.read_bytes())
    with pytest.raises(
        UserError, match="journal.log is not a readable journal of a study .* Remove the study's folder"
    ):
        open_study(tmp_path, "study")


@pytest.mark.parametrize("kind", ["database", "file"])
def test_two_machines_share_a_study(
    toy: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Another machine's call, in the middle of a trial of the first one's, takes other trials."""
    storage = f"sqlite:///{tmp_path / 'studies.db'}" if kind == "database" else str(tmp_path / "study.log")
    other = write_toy(Workspace(tmp_path / "other"))
    trainer, minutes = Trainer(), iter([0, 0, 0, 0, 10, 10])
    monkeypatch.setattr(tuning, "time", SimpleNamespace(monotonic=lambda: 60 * next(minutes)))

    def train(workspace: Workspace, plan: Plan, progress: object, **options: Any) -> None:
        if len(trainer.plans) == 0:
            trainer.plans.append(plan)
            tune(other, plan_of, SPACE, "study", 5, ListProgress(), storage)
            trainer.plans.pop(0)
        trainer(workspace, plan, progress, **options)

    monkeypatch.setattr(tuning, "train_run", train)
    path = tune(toy, plan_of, SPACE, "study", 5, ListProgress(), storage)
    states = {row["trial"]: row["state"] for row in rows_of(path)}
    assert states == {0: "complete", 1: "complete"}
    elsewhere = {row["trial"]: row["state"] for row in rows_of(other.study("study") / "trials.parquet")}
    assert elsewhere == {0: "running", 1: "complete"}
    assert trainer.plans[0] != trainer.plans[1] == plan_of({})  # the first trial has the preset's values
    with pytest.raises(UserError, match=r"study of --storage has other settings \(space\)"):
        few = {"dropout": FloatRange(0.0, 0.5)}
        tune(write_toy(Workspace(tmp_path / "third")), plan_of, few, "study", 1, ListProgress(), storage)


def test_a_study_of_other_data_is_refused(
    toy: Workspace, tmp_path: Path, clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = str(tmp_path / "study.log")
    monkeypatch.setattr(tuning, "train_run", Trainer())
    tune(toy, plan_of, SPACE, "study", 2, ListProgress(), storage)
    other = write_toy(Workspace(tmp_path / "other"), users=100)
    with pytest.raises(UserError, match=r"other settings \(inputs\)"):
        tune(other, plan_of, SPACE, "study", 2, ListProgress(), storage)


@pytest.mark.parametrize("storage", ["nosuch://host/studies", "sqlite:////nosuch/folder/studies.db"])
def test_a_storage_that_cannot_be_used_is_one_line(storage: str) -> None:
    with pytest.raises(UserError, match=r"--storage cannot be used \(.*\). Name a database, such as"):
        open_shared_study(storage, "study")
