"""Runs over a catalogue that has grown since their training."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from pipelines import artifacts
from pipelines.decode.config import Decoding
from pipelines.errors import UserError
from pipelines.evaluate.config import EvalConfig
from pipelines.evaluate.run import evaluate_run
from pipelines.models.item_models.config import SASRecConfig
from pipelines.models.loading import load_run
from pipelines.train.plan import Plan
from pipelines.train.run import train_run
from pipelines.workspace import Run, Workspace
from tests.conftest import ListProgress
from tests.train.conftest import SCHEDULE, append_interactions, grow_items, plan, write_rows

CPU = torch.device("cpu")
SOFTMAX = {"tokens": "item", "likelihood": "item", "attention": "prefix", "item_embeddings": True}


@pytest.fixture
def trained(toy: Workspace, sids: str, progress: ListProgress) -> Run:
    return train_run(toy, plan(sids, **SOFTMAX), progress, name="run")


def test_a_run_takes_new_items_after_the_old_ones(
    toy: Workspace, sids: str, trained: Run, progress: ListProgress
) -> None:
    config = json.loads(trained.config.read_text())
    assert config["items"] == 60 and set(config["catalogue"]) == {"item ids", "semantic IDs"}
    before = load_run(toy, trained, CPU)
    assert len(before.new_items) == 0
    grow_items(toy, sids)
    after = load_run(toy, trained, CPU)
    np.testing.assert_array_equal(after.new_items, np.arange(60, 65))
    assert after.model.items == after.catalogue.items == 65
    torch.testing.assert_close(after.model.item_vectors()[:60], before.model.item_vectors())
    found = evaluate_run(toy, trained, EvalConfig(Decoding(beams=65, nfe=1)), progress)
    assert "5 of 65 items are new to run: scored by their semantic IDs." in progress.messages
    listed = artifacts.read(found.folder / "recommendations.parquet", "recommendations")["items"]
    assert {item for items in listed.to_pylist() for item in items} == set(range(65))


def test_a_model_over_item_numbers_ranks_new_items_last(toy: Workspace, progress: ListProgress) -> None:
    settings = SASRecConfig(layers=1, width=32, heads=2, mlp=64, max_items=8)
    run = train_run(toy, Plan("toy", None, "sasrec", "test", settings, SCHEDULE), progress, name="run")
    config = json.loads(run.config.read_text())
    grow_items(toy, None)
    for spoilt in ({"items": -5}, {"items": 66}, {"catalogue": {}}):
        artifacts.write_json(run.config, {**config, **spoilt})
        with pytest.raises(UserError, match="other items than"):
            load_run(toy, run, CPU)
    artifacts.write_json(run.config, config)
    found = evaluate_run(toy, run, EvalConfig(Decoding(beams=65)), progress)
    assert any("new to run: ranked last, because" in line for line in progress.messages)
    listed = artifacts.read(found.folder / "recommendations.parquet", "recommendations")["items"].to_pylist()
    assert all(items[60:] == list(range(60, 65)) for items in listed)


def test_other_sequences_are_taken_only_on_request(toy: Workspace, sids: str, trained: Run) -> None:
    grow_items(toy, sids)
    append_interactions(toy, [[60, 61, 62, 63]], [64, 3])
    with pytest.raises(UserError, match="trained on other sequences than .* now holds"):
        load_run(toy, trained, CPU)
    assert load_run(toy, trained, CPU, any_sequences=True).model.items == 65


def test_old_items_that_moved_are_refused(toy: Workspace, sids: str, trained: Run) -> None:
    dataset = toy.require_dataset()
    grow_items(toy, sids)
    items, path = artifacts.read(dataset.items, "items"), dataset.sids(sids)
    codes = artifacts.matrix(artifacts.read(path, "sids"), "sid", path).copy()
    config = artifacts.provenance(path)["config"]
    codes[[0, 64]] = codes[[64, 0]]
    write_rows(path, "sids", codes, config)
    with pytest.raises(UserError, match="trained on other sids"):
        load_run(toy, trained, CPU)
    codes[[0, 64]] = codes[[64, 0]]
    moved = items.take([1, 0, *range(2, 65)]).set_column(0, "item", items["item"])
    artifacts.write(dataset.items, "items", moved, config={})
    write_rows(path, "sids", codes, config)
    with pytest.raises(UserError, match=r"other items than .* now begins with: new items must follow"):
        load_run(toy, trained, CPU)
    artifacts.write(dataset.items, "items", items.slice(0, 59), config={})
    write_rows(path, "sids", codes[:59], config)
    with pytest.raises(UserError, match="trained on other sids"):
        load_run(toy, trained, CPU)


def test_a_run_that_does_not_record_its_items_takes_no_others(
    toy: Workspace, sids: str, trained: Run
) -> None:
    config = json.loads(trained.config.read_text())
    del config["items"], config["catalogue"]
    artifacts.write_json(trained.config, config)
    assert load_run(toy, trained, CPU).model.items == 60
    grow_items(toy, sids)
    with pytest.raises(UserError, match="trained on other sids"):
        load_run(toy, trained, CPU)
