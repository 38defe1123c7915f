"""Training from artifacts to artifacts: it learns, it resumes as if never stopped, it refuses what does not
fit.
"""

from __future__ import annotations

import dataclasses
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from pipelines import artifacts
from pipelines.data.catalogue import load_catalogue
from pipelines.data.sequences import load_sequences
from pipelines.data.splits import training
from pipelines.decode.config import Decoding
from pipelines.errors import UserError
from pipelines.evaluate import recommend
from pipelines.evaluate.config import EvalConfig
from pipelines.evaluate.run import evaluate_run
from pipelines.formats import FORMAT_VERSION
from pipelines.models import loading
from pipelines.models.loading import load_run
from pipelines.train import loop
from pipelines.train.batches import Batches
from pipelines.train.config import TrainConfig
from pipelines.train.existing import find_unfinished
from pipelines.train.run import train_run
from pipelines.workspace import Run, Workspace
from tests.conftest import ListProgress
from tests.train.conftest import plan, write_sids

SAMPLED = {"tokens": "item", "likelihood": "item", "item_embeddings": True, "negatives": 8}


def losses(run: Run) -> dict[int, float]:
    rows = artifacts.read(run.history, "history").to_pylist()
    return {row["step"]: row["value"] for row in rows if row["measure"] == "loss"}


@pytest.fixture(autouse=True)
def every_step_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "RECORD_EVERY", 1)


def test_it_learns_a_known_pattern(toy: Workspace, sids: str, progress: ListProgress) -> None:
    """Item i is followed by item i + 1: after seconds of training the next item is nearly always first."""
    run = train_run(
        toy,
        plan(sids, steps=600, layers=2, width=64, mlp=128, dropout=0.0, learning_rate=0.005, batch_size=64),
        progress,
    )
    found = evaluate_run(toy, run, EvalConfig(Decoding(beams=10), precision="fp32"), progress)
    values = {(r["metric"], r["k"]): r["value"] for r in found.metrics.to_pylist()}
    popular = {(r["metric"], r["k"]): r["value"] for r in found.popularity.to_pylist()}
    assert values["recall", 5] > 0.8
    assert values["ndcg", 5] > 0.5
    assert values["invalid_rate", None] == 0
    assert popular["recall", 5] < 0.3
    best = json.loads(run.config.read_text())["best"]
    assert best["recall@10"] == max(
        r["value"] for r in artifacts.read(run.history, "history").to_pylist() if r["measure"] == "recall@10"
    )
    assert json.loads(run.config.read_text())["state"] == "finished"


@pytest.mark.parametrize(
    ("settings", "signal_at"), [({"optimizer": "muon"}, 6), ({"optimizer": "adamw"}, 0), (SAMPLED, 6)]
)
def test_a_resumed_run_is_one_that_never_stopped(
    toy: Workspace,
    sids: str,
    progress: ListProgress,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict,
    signal_at: int,
) -> None:
    whole = train_run(toy, plan(sids, **settings), progress, name="whole")
    step = loop.Trainer.training_step

    def interrupted(self: loop.Trainer, number: int, *rest: object) -> tuple[float, int]:
        if number == signal_at:
            signal.raise_signal(signal.SIGINT)
        return step(self, number, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Trainer, "training_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train_run(toy, plan(sids, **settings), progress, name="halves")
    halves = toy.run("halves")
    assert json.loads(halves.config.read_text())["state"] == "interrupted"
    with pytest.raises(UserError, match="--resume"):
        train_run(toy, plan(sids, **settings), progress, name="halves")
    run, found = find_unfinished(toy, None)
    assert (run.name, found) == ("halves", plan(sids, **settings))
    train_run(toy, found, progress, name=run.name, existing="resume")
    assert f"Resumed halves at step {signal_at}." in progress.messages
    one, two = losses(whole), losses(halves)
    assert list(one) == list(two) == list(range(1, 13))
    np.testing.assert_allclose(list(two.values()), list(one.values()), rtol=1e-5)
    first, second = load_file(whole.weights), load_file(halves.weights)
    for name in first:
        torch.testing.assert_close(second[name], first[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dense", [False, True])
def test_the_cut_into_passes_changes_no_gradient(toy: Workspace, sids: str, dense: bool) -> None:
    gradients, text = [], np.random.default_rng(0).normal(size=(60, 8))
    for micro_tokens in (24, 100_000):
        config = plan(sids, micro_tokens=micro_tokens, dropout=0.0, next_item=0.3, dense=dense)
        catalogue = load_catalogue(toy.require_dataset(), sids)
        torch.manual_seed(0)
        model = loading.build(config.model_settings, dataclasses.replace(catalogue, text=text))
        batches = Batches(training(load_sequences(toy.require_dataset().sequences)), 32, 8, 0)
        trainer = loop.Trainer(model, batches, config.train, Accelerator(cpu=True))
        got: list[torch.Tensor] = []
        trainer.optimizers[0].optimizer.register_step_pre_hook(lambda optimizer, *_, got=got: got.extend(
            p.grad.clone() for group in optimizer.param_groups for p in group["params"]
        ))  # fmt: skip
        loss, tokens = trainer.training_step(*next(batches.steps(0)))
        gradients.append((loss.item(), got))
        assert 32 * 2 * 3 < tokens < 32 * 6 * 3
    assert gradients[0][0] == pytest.approx(gradients[1][0], rel=1e-5)
    for a, b in zip(gradients[0][1], gradients[1][1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)


def test_two_processes_average_the_gradients_of_a_table(toy: Workspace, sids: str, maskgr: Callable) -> None:
    """A process touches rows of its own. As many negatives as items make the draws of no importance."""
    options = ["--semantic-ids", sids, "--preset", "smoke", "--steps", 6, "--precision", "fp32"]
    options += ["--tokens", "item", "--likelihood", "item", "--item-embeddings", "--negatives", 1000]
    for count in (1, 2):
        done = maskgr("train", *options, "--processes", count, "--name", f"by-{count}")
        assert done.returncode == 0, done.stderr
    one, two = (load_file(toy.run(f"by-{count}").weights) for count in (1, 2))
    assert "item_embedding.weight" in one
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-3, atol=1e-5)


def test_what_does_not_fit_is_refused_and_kept(
    toy: Workspace, sids: str, progress: ListProgress, tmp_path: Path
) -> None:
    run = train_run(toy, plan(sids), progress, name="run")
    before = {file: file.read_bytes() for file in run.path.rglob("*") if file.is_file()}
    with pytest.raises(UserError, match=r"other settings \(train\)"):
        train_run(toy, plan(sids, seed=1), progress, name="run")
    train_run(toy, plan(sids), progress, name="run")
    assert "is trained already" in progress.messages[-1]
    with pytest.raises(UserError, match="nothing to resume: every run in .* is finished"):
        find_unfinished(toy, None)
    assert find_unfinished(toy, "run") == (run, plan(sids))
    with pytest.raises(UserError, match="--nfe 4 is more than the 3 digits"):
        evaluate_run(toy, run, EvalConfig(Decoding(nfe=4)), progress)
    run.state.write_bytes(b"not a checkpoint")
    config = json.loads(run.config.read_text())
    artifacts.write_json(run.config, {**config, "state": "interrupted"})
    with pytest.raises(UserError, match="state.safetensors is not a readable training state of this run"):
        train_run(toy, plan(sids), progress, name="run", existing="resume")
    spoilt = bytearray(before[run.state])
    spoilt[-1] ^= 1  # of a tensor
    run.state.write_bytes(spoilt)
    with pytest.raises(UserError, match="its content is not what was written"):
        train_run(toy, plan(sids), progress, name="run", existing="resume")
    for file in (run.state, run.config):
        file.write_bytes(before[file])
    assert {file: file.read_bytes() for file in run.path.rglob("*") if file.is_file()} == before
    write_sids(toy, sids, digits=4)
    for act in (
        lambda: evaluate_run(toy, run, EvalConfig(Decoding()), progress),
        lambda: train_run(toy, plan(sids), progress, name="run"),
    ):
        with pytest.raises(UserError, match="trained on other sids"):
            act()
    run.weights.write_bytes(before[run.weights][:50])
    with pytest.raises(UserError):
        evaluate_run(toy, run, EvalConfig(Decoding()), progress)


def test_sids_of_other_items_are_refused(toy: Workspace, sids: str, progress: ListProgress) -> None:
    dataset = toy.require_dataset()
    items = artifacts.read(dataset.items, "items")
    artifacts.write(dataset.items, "items", items.slice(0, 59), config={})
    with pytest.raises(UserError, match=r"SIDs of other items \(60\) than .* now does \(59\)"):
        train_run(toy, plan(sids), progress)


def test_a_tracker_gets_the_figures_or_is_refused(toy: Workspace, sids: str, progress: ListProgress) -> None:
    with pytest.raises(UserError, match="--track nosuch"):
        train_run(toy, plan(sids), progress, track="nosuch")


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"steps": 0}, "--steps is 0"),
        ({"learning_rate": -1.0}, "--learning-rate is -1"),
        ({"warmup": 2.0}, "--warmup"),
        ({"optimizer": "sgd"}, "--optimizer 'sgd'"),
        ({"steps": None}, "no end"),
        ({"decay_shape": "sharp"}, "--decay-shape 'sharp' is unknown; choose cosine, linear"),
        ({"windows": "first"}, "--windows 'first' is unknown; choose random, last"),
    ],
)
def test_impossible_schedules_are_refused(wrong: dict, named: str) -> None:
    with pytest.raises(UserError, match=named):
        TrainConfig(**{"steps": 5, **wrong})


SPOILT = {
    "train": ("train", {"steps": "many"}, r"train\.steps is 'many'"),
    "unknown": ("train", {"steps": 1, "colour": 1}, r"train\.colour is unknown"),
    "model_settings": (
        "model_settings",
        {"width": 3.5},
        r"--model maskgr: width is 3\.5, expected a whole number",
    ),
    "inputs": ("inputs", {"sids": "x"}, r"config\.json: inputs\.sids is 'x', expected an object"),
    "best": ("best", {"step": 1}, r"best\.recall@10 is missing"),
    "no SIDs": ("sids", None, "The model needs semantic IDs, and none are named"),
    "dataset": ("dataset", 7, r"config\.json: dataset is 7, expected text"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_spoilt_config_is_one_line(toy: Workspace, sids: str, case: str) -> None:
    key, value, message = SPOILT[case]
    sources = {"sequences": toy.dataset("toy").sequences, "sids": toy.dataset("toy").sids(sids)}
    inputs = {name: {"path": str(path), "sha256": artifacts.digest(path)} for name, path in sources.items()}
    run = toy.run("run")
    artifacts.write_json(
        run.config,
        {"format": FORMAT_VERSION, **plan(sids).to_dict(), "state": "running", "inputs": inputs, key: value},
    )
    with pytest.raises(UserError, match=message):
        find_unfinished(toy, "run") if key == "train" else load_run(toy, run, torch.device("cpu"))


@pytest.mark.parametrize("validation", [2, 3])
def test_a_signal_ends_a_validation_which_is_done_once_the_run_is_resumed(
    toy: Workspace, sids: str, progress: ListProgress, monkeypatch: pytest.MonkeyPatch, validation: int
) -> None:
    """The validation in the middle of the training, and the last one."""
    monkeypatch.setitem(recommend.TOKENS, "cpu", 1024)
    search, batches = recommend.Search.__call__, []

    def counted(self: recommend.Search, *arguments: object) -> object:
        batches.append(len(batches) + 1)
        if len(batches) == signal_at:
            signal.raise_signal(signal.SIGINT)
        return search(self, *arguments)

    monkeypatch.setattr(recommend.Search, "__call__", counted)
    signal_at = 0
    whole = train_run(toy, plan(sids), progress, name="whole")
    each, rest = divmod(len(batches), 3)
    assert (each > 3, rest) == (True, 0)
    batches, signal_at = [], each * (validation - 1) + 2
    with pytest.raises(KeyboardInterrupt):
        train_run(toy, plan(sids), progress, name="halves")
    assert len(batches) == signal_at  # the other batches of the validation are left out
    halves = toy.run("halves")
    config = json.loads(halves.config.read_text())
    assert (config["state"], config["steps"]) == ("interrupted", 4 * validation)
    train_run(toy, plan(sids), progress, name="halves", existing="resume")
    for run in (whole, halves):
        assert json.loads(run.config.read_text())["state"] == "finished"
    recalls = [
        [
            row["value"]
            for row in artifacts.read(run.history, "history").to_pylist()
            if row["measure"] == "recall@10"
        ]
        for run in (whole, halves)
    ]
    assert recalls[0] == recalls[1]
    assert len(recalls[0]) == 3
    first, second = load_file(whole.weights), load_file(halves.weights)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_signal_in_the_last_moment_leaves_a_finished_run_and_ends_the_program(
    toy: Workspace, sids: str, progress: ListProgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    validate = loop.Trainer.validate

    def late(self: loop.Trainer, *arguments: Any) -> bool:
        is_best = validate(self, *arguments)
        if self.state.step == 12:
            signal.raise_signal(signal.SIGINT)
        return is_best

    monkeypatch.setattr(loop.Trainer, "validate", late)
    with pytest.raises(KeyboardInterrupt):
        train_run(toy, plan(sids), progress, name="late")
    assert json.loads(toy.run("late").config.read_text())["state"] == "finished"
