"""Distillation: the artifact against a literal computation, and the training that uses it."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from accelerate import Accelerator

from pipelines import artifacts
from pipelines.data.groups import training_groups
from pipelines.data.sequences import Sequences, load_sequences
from pipelines.data.splits import training
from pipelines.data.stored import StoredSequences
from pipelines.errors import UserError
from pipelines.models.base import Recommender
from pipelines.models.distribution import distribution_after
from pipelines.models.item_models.config import BERT4RecConfig, SASRecConfig
from pipelines.models.loading import load_run
from pipelines.models.objectives.soft_targets import SoftTargets
from pipelines.models.sid_models.config import TIGERConfig
from pipelines.train import soft_targets
from pipelines.train.batches import Batches
from pipelines.train.config import TrainConfig
from pipelines.train.data import training_data
from pipelines.train.derived import continued_plan, final_plan
from pipelines.train.loop import Trainer
from pipelines.train.plan import Plan
from pipelines.train.run import train_run
from pipelines.train.soft_targets import ensure_soft_targets, places_of
from pipelines.train.stored_targets import StoredTargets
from pipelines.train.teachers import teacher_weights
from pipelines.workspace import Run, RunConfig, Workspace
from tests.conftest import ListProgress
from tests.models.test_every_model import N as RULE_ITEMS
from tests.models.test_every_model import build, search, split
from tests.train.conftest import SCHEDULE, plan

TINY = {"layers": 1, "width": 16, "heads": 2, "mlp": 16, "max_items": 3}  # below the length of sequences
PREFIX = {"attention": "prefix", "tokens": "item", "likelihood": "item", "repeat_bias": True}
SHORT = dataclasses.replace(SCHEDULE, steps=2, validations=1, validation_users=20)


def teach(toy: Workspace, sids: str, progress: ListProgress, **changes: object) -> list[str]:
    """Train three teachers: one that sees all prefixes in a pass, with item numbers and with semantic IDs,
    and one that does not.
    """
    of_items = [
        Plan("toy", None, kind.name, "test", kind(**{**TINY, "max_items": window}), SHORT)
        for kind, window in ((SASRecConfig, 4), (BERT4RecConfig, 2))
    ]
    plans = {"prefix": plan(sids, **TINY, **PREFIX, **vars(SHORT))}
    plans |= dict(zip(("sasrec", "bert"), of_items, strict=True))
    for name, each in plans.items():
        train_run(toy, each, progress, name=name)
    return list(plans)


def student(sids: str, teachers: str = "prefix,sasrec,bert", **changes: object) -> Plan:
    return plan(sids, **{**TINY, **PREFIX, **vars(SHORT), "distill": teachers, "teacher_items": 7, **changes})


def built(toy: Workspace, wanted: Plan, progress: ListProgress) -> StoredTargets:
    weights = teacher_weights(toy, wanted, toy.run("student"), RunConfig())
    return StoredTargets(ensure_soft_targets(toy, wanted, weights, 60, progress))


@torch.no_grad()
def literal(models: list[Recommender], history: list[int]) -> np.ndarray:
    """The geometric mean of distributions after one history, item by item."""
    logp = []
    for model in models:
        seen = torch.tensor([history[-model.config.max_items :]])
        logp.append(distribution_after(model, seen, torch.zeros(1, dtype=torch.int64)).log_probs()[0].numpy())
    mean = np.exp(np.mean(logp, axis=0))
    return mean / mean.sum()


def test_the_artifact_has_the_literal_probabilities_of_each_prefix(
    toy: Workspace, sids: str, progress: ListProgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soft_targets, "CHUNK", 100)
    names = teach(toy, sids, progress)
    targets = built(toy, student(sids), progress)
    trained = training(load_sequences(toy.require_dataset().sequences))
    assert len(targets) == len(trained.items)
    items, probabilities = targets.read(0, len(targets))
    models = [load_run(toy, toy.run(name), torch.device("cpu")).model for name in names]
    for row in range(0, len(trained), 17):
        first, last = trained.offsets[row : row + 2]
        sequence = trained.items[first:last].tolist()
        assert not probabilities[first].any()
        for end in range(1, len(sequence)):
            expected = literal(models, sequence[:end])
            found = probabilities[first + end].astype(np.float64)
            np.testing.assert_allclose(found, expected[items[first + end]], rtol=2e-3, atol=1e-5)
            np.testing.assert_allclose(found, np.sort(expected)[::-1][:7], rtol=2e-3, atol=1e-5)
    for begin, end in ((0, 1), (37, 205), (99, 100), (len(targets) - 3, len(targets))):
        part = targets.read(begin, end)
        assert (part[0] == items[begin:end]).all() and (part[1] == probabilities[begin:end]).all()
    recorded = artifacts.provenance(targets.path)
    assert recorded["config"]["teachers"] == sorted(artifacts.digest(toy.run(n).weights) for n in names)
    assert not list(targets.path.parent.glob(".*"))


def test_an_interrupted_computation_goes_on_at_the_chunks_that_are_whole(
    toy: Workspace, sids: str, progress: ListProgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soft_targets, "CHUNK", 100)
    train_run(toy, plan(sids, **TINY, **PREFIX, **vars(SHORT)), progress, name="prefix")
    wanted, best_items, done = student(sids, "prefix"), soft_targets.best_items, []

    def killed(*arguments: object) -> object:
        if len(done) == 4:
            raise KeyboardInterrupt
        done.append(arguments)
        return best_items(*arguments)

    monkeypatch.setattr(soft_targets, "best_items", killed)
    with pytest.raises(KeyboardInterrupt):
        built(toy, wanted, progress)
    folder = toy.require_dataset().path / "targets"
    parts = sorted(folder.glob(".*.parts/*/*.parquet"))
    assert len(parts) == 4 and not list(folder.glob("*.parquet"))
    parts[0].write_bytes(parts[0].read_bytes()[:50])  # damaged: computed again
    rest: list[object] = []
    monkeypatch.setattr(soft_targets, "best_items", lambda *a: (rest.append(a), best_items(*a))[1])
    path = built(toy, wanted, progress).path
    assert len(rest) == pq.read_metadata(path).num_row_groups - 3
    interrupted = artifacts.digest(path)
    path.unlink()
    assert artifacts.digest(built(toy, wanted, progress).path) == interrupted


def test_places_are_the_training_items_alone(toy: Workspace, sids: str) -> None:
    dataset = toy.require_dataset()
    before = places_of(student(sids), StoredSequences(dataset.sequences, 60), 60)[0].read(0)
    table = artifacts.read(dataset.sequences, "sequences")
    held_out = [[*row[:-2], row[0], row[0]] for row in table["items"].to_pylist()]
    column = table.column_names.index("items")
    table = table.set_column(column, "items", pa.array(held_out, pa.list_(pa.int32())))
    artifacts.write(dataset.sequences, "sequences", table, config={})
    after = places_of(student(sids), StoredSequences(dataset.sequences, 60), 60)[0].read(0)
    assert after.items.tolist() == before.items.tolist()
    assert len(after.items) == len(table) * (len(held_out[0]) - 2)


@pytest.mark.parametrize("drop_items", [0.0, 0.4])
def test_windows_bring_the_soft_targets_of_their_items_from_memory_and_from_files(
    toy: Workspace, sids: str, progress: ListProgress, drop_items: float
) -> None:
    dataset = toy.require_dataset()
    table = pq.read_table(dataset.sequences)
    pq.write_table(table, dataset.sequences, row_group_size=30, write_page_checksum=True)
    train_run(toy, plan(sids, **TINY, **PREFIX, **vars(SHORT)), progress, name="prefix")
    wanted = student(sids, "prefix", drop_items=drop_items)
    targets = built(toy, wanted, progress)
    items, _ = targets.read(0, len(targets))
    trained = training(load_sequences(dataset.sequences))
    for shuffle in ("all", "groups"):
        data = training_data(wanted, dataset.sequences, 60, progress, shuffle, targets.path)
        for _, windows, rows in itertools.islice(data.batches.steps(0), 9):
            assert windows.soft is not None
            for row in rows:
                inside = slice(*windows.offsets[row : row + 2])
                user = windows.users[row]
                own = slice(*trained.offsets[user : user + 2])
                for item, place in zip(windows.items[inside], windows.soft.places[inside], strict=True):
                    at = own.start + trained.items[own].tolist().index(item)
                    assert (windows.soft.items[place] == items[at]).all()


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("maskgr", {"attention": "prefix", "tokens": "item", "likelihood": "item", "next_item": 0.0}),
        ("maskgr", {"tokens": "item", "next_item": 1.0, "whole_item": 1.0}),
        ("rpg", {}),
    ],
)
def test_a_student_learns_a_rule_from_soft_targets_alone(name: str, settings: dict[str, object]) -> None:
    """The teacher knows that item i + 1 or i + 2 follows item i; the true items are random, so that no digit
    of theirs may be visible.
    """
    rng = np.random.default_rng(0)
    items = rng.integers(0, RULE_ITEMS, 2 * 128).astype(np.int32)
    sequences = Sequences(items, np.arange(0, len(items) + 1, 2))
    rule = np.zeros((len(items), 2), np.int32)
    rule[1::2] = (items[::2, None] + [1, 2]) % RULE_ITEMS
    likely = np.zeros((len(items), 2), np.float16)
    likely[1::2] = [0.75, 0.25]  # the first items have no history
    soft = SoftTargets(rule, likely, np.arange(len(items)), 1.0)
    model = build(name, **settings)
    config = TrainConfig(steps=100, learning_rate=0.01, batch_size=128, precision="fp32")
    prefixes = model.config.examples == "prefixes"
    batches = Batches(sequences, 128, model.config.window, 0, prefixes, soft=soft)
    trainer = Trainer(model, batches, config, Accelerator(cpu=True))
    for step, windows, rows in itertools.islice(batches.steps(0), 100):
        trainer.training_step(step, windows, rows)
        trainer.state.step = step + 1
    everyone = split([[item] for item in range(RULE_ITEMS)], [0] * RULE_ITEMS)
    found = search(model.eval(), everyone).items[:, :, 0]  # five of thirty
    following = (np.arange(RULE_ITEMS)[:, None] + 1) % RULE_ITEMS
    assert (found == following).any(1).mean() > 0.9
    assert (found[:, :1] == following).mean() > 0.5


def losses(run: Run) -> list[float]:
    rows = artifacts.read(run.history, "history").to_pylist()
    return [row["value"] for row in rows if row["measure"] == "loss"]


def test_two_processes_have_the_losses_of_one_and_a_resumed_run_keeps_its_teachers(
    toy: Workspace, sids: str, progress: ListProgress, maskgr: Callable
) -> None:
    train_run(toy, plan(sids, **TINY, **PREFIX, **vars(SHORT)), progress, name="prefix")
    shape = {"dropout": 0.0, "steps": 20, "distill": "prefix"}
    wanted = plan(sids, **{**TINY, **PREFIX, **vars(SHORT), **shape})
    wanted = dataclasses.replace(wanted, preset="smoke")
    one = train_run(toy, wanted, progress, name="one")
    config = json.loads(one.config.read_text())
    assert config["teachers"] == {"prefix": artifacts.digest(toy.run("prefix").weights)}
    done = maskgr("train", "--config", one.settings, "--name", "two", "--processes", 2)
    assert done.returncode == 0, done.stderr
    assert "exist already" in done.stderr
    np.testing.assert_allclose(losses(toy.run("two")), losses(one), rtol=1e-4)
    loaded = load_run(toy, one, torch.device("cpu"))
    for path in (*toy.run("prefix").path.iterdir(), *toy.require_dataset().all_targets):
        path.unlink()  # a student needs neither to recommend
    assert load_run(toy, one, torch.device("cpu")).catalogue.items == loaded.catalogue.items
    assert train_run(toy, wanted, progress, name="one").path == one.path  # finished still


def test_teachers_that_cannot_teach_are_refused(toy: Workspace, sids: str, progress: ListProgress) -> None:
    def error(wanted: Plan, name: str = "student") -> str:
        with pytest.raises(UserError) as raised:
            train_run(toy, wanted, progress, name=name, existing="replace")
        return str(raised.value)

    train_run(toy, plan(sids, **TINY, **vars(SHORT)), progress, name="full")
    tiger = Plan("toy", sids, "tiger", "test", TIGERConfig(**TINY), SHORT)
    train_run(toy, tiger, progress, name="tiger")
    assert "No run 'none'" in error(student(sids, "none"))
    assert "names the run itself" in error(student(sids, "full"), "full")
    assert "--model tiger decides one digit after another" in error(student(sids, "tiger"))
    cold = student(sids, "full", cold=0.2)
    assert "--distill full: its training left other items out (--cold 0" in error(cold)
    wide = dataclasses.replace(student(sids, "full", horizon=2, attention="full", repeat_bias=False))
    assert "was trained with --horizon 1, on items that --horizon 2 holds out" in error(wide)
    other = Workspace(toy.root).run("full")
    config = json.loads(other.config.read_text())
    other.config.write_text(json.dumps({**config, "dataset": "beauty"}))
    assert "was trained on the data set beauty, not on toy" in error(student(sids, "full"))
    other.config.write_text(json.dumps({**config, "state": "interrupted"}))
    assert "full is not finished" in error(student(sids, "full"))
    other.config.write_text(json.dumps({**config, "final": {"of": "first", "weights": "", "steps": 1}}))
    assert "it is a final run" in error(student(sids, "full"))
    with pytest.raises(UserError, match="names a run twice"):
        student(sids, "full,full")
    with pytest.raises(UserError, match="--teacher-share 0.5 needs --distill"):
        plan(sids, teacher_share=0.5)
    with pytest.raises(UserError, match="--distill full has no effect on --model sasrec"):
        Plan("toy", None, "sasrec", "test", SASRecConfig(**TINY), student(sids, "full").train)


def test_a_retrained_teacher_is_noticed(toy: Workspace, sids: str, progress: ListProgress) -> None:
    teacher = plan(sids, **TINY, **PREFIX, **vars(SHORT))
    train_run(toy, teacher, progress, name="prefix")
    wanted = student(sids, "prefix")
    run = train_run(toy, wanted, progress, name="student")
    first = {path.name for path in toy.require_dataset().all_targets}
    again = dataclasses.replace(teacher, train=dataclasses.replace(teacher.train, seed=1))
    train_run(toy, again, progress, name="prefix", existing="replace")
    with pytest.raises(UserError, match="learned from an earlier training of prefix"):
        train_run(toy, wanted, progress, name="student")
    train_run(toy, wanted, progress, name="student", existing="replace")
    assert len({path.name for path in toy.require_dataset().all_targets} - first) == 1
    assert isinstance(run.path, Path)


def test_final_and_cold_students(toy: Workspace, sids: str, progress: ListProgress) -> None:
    cold = {"cold": 0.2, "validations": 1}
    train_run(toy, plan(sids, **{**TINY, **PREFIX, **vars(SHORT), **cold}), progress, name="cold")
    wanted = student(sids, "cold", cold=0.2)
    targets = built(toy, wanted, progress)
    sequences = toy.require_dataset().sequences
    groups = training_groups(StoredSequences(sequences, 60).groups, 60, 1, 0.2, 0)
    known = np.flatnonzero(groups.item_counts(60, soft_targets.Processes()))
    items, probabilities = targets.read(0, len(targets))
    assert set(items[probabilities > 0].tolist()) <= set(known.tolist())
    train_run(toy, wanted, progress, name="student")
    data = training_data(wanted, sequences, 60, progress, None, targets.path)
    soft = data.batches.epoch(0).soft
    assert (known[soft.items[probabilities > 0]] == items[probabilities > 0]).all()


def test_a_final_student_learns_from_teachers_at_every_item(
    toy: Workspace, sids: str, progress: ListProgress
) -> None:
    """Its training sees whole sequences, so that it needs soft targets of the held-out items too."""
    train_run(toy, plan(sids, **{**TINY, **PREFIX, **vars(SHORT)}), progress, name="prefix")
    run = train_run(toy, student(sids, "prefix"), progress, name="student")
    final = train_run(toy, final_plan(toy, run), progress, name="whole")
    whole = load_sequences(toy.require_dataset().sequences)
    longest = max((StoredTargets(path) for path in toy.require_dataset().all_targets), key=len)
    assert len(longest) == len(whole.items)
    model = load_run(toy, toy.run("prefix"), torch.device("cpu")).model
    items, probabilities = longest.read(0, len(longest))
    last = int(whole.offsets[1]) - 1  # the test item of the first user
    expected = literal([model], whole.items[:last].tolist())
    np.testing.assert_allclose(probabilities[last], expected[items[last]], rtol=2e-3, atol=1e-5)
    assert np.isfinite(losses(final)).all()


def test_a_continued_student_asks_its_teachers_about_new_interactions(
    toy: Workspace, sids: str, progress: ListProgress
) -> None:
    train_run(toy, plan(sids, **{**TINY, **PREFIX, **vars(SHORT)}), progress, name="prefix")
    run = train_run(toy, student(sids, "prefix"), progress, name="student")
    dataset = toy.require_dataset()
    table = artifacts.read(dataset.sequences, "sequences")
    longer = [[*row, row[0]] for row in table["items"].to_pylist()]
    column = table.column_names.index("items")
    table = table.set_column(column, "items", pa.array(longer, pa.list_(pa.int32())))
    artifacts.write(dataset.sequences, "sequences", table, config={})
    continued = train_run(toy, continued_plan(run, {}), progress, name="longer")
    trained = training(load_sequences(dataset.sequences))
    assert max(len(StoredTargets(path)) for path in dataset.all_targets) == len(trained.items)
    assert np.isfinite(losses(continued)).all()


@pytest.mark.parametrize("changes", [{"windows": "last"}, {"horizon": 2, "attention": "full"}])
def test_soft_targets_belong_to_their_items_in_windows_of_every_kind(
    toy: Workspace, sids: str, progress: ListProgress, changes: dict[str, object]
) -> None:
    changes = {"repeat_bias": "attention" not in changes, **changes}
    horizon = {"horizon": changes.get("horizon", 1)}
    full = {"attention": "full", "repeat_bias": False} if "attention" in changes else {}
    train_run(
        toy, plan(sids, **{**TINY, **PREFIX, **vars(SHORT), **horizon, **full}), progress, name="prefix"
    )
    wanted = student(sids, "prefix", **changes)
    targets = built(toy, wanted, progress)
    items, _ = targets.read(0, len(targets))
    sequences = toy.require_dataset().sequences
    trained = training(load_sequences(sequences), wanted.train.horizon)
    assert len(items) == len(trained.items)
    data = training_data(wanted, sequences, 60, progress, None, targets.path)
    for _, windows, rows in itertools.islice(data.batches.steps(0), 9):
        for row in rows:
            inside = slice(*windows.offsets[row : row + 2])
            own = slice(*trained.offsets[windows.users[row] : windows.users[row] + 2])
            for item, place in zip(windows.items[inside], windows.soft.places[inside], strict=True):
                at = own.start + trained.items[own].tolist().index(item)
                assert (windows.soft.items[place] == items[at]).all()
    assert np.isfinite(losses(train_run(toy, wanted, progress, name="student"))).all()
