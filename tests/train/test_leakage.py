"""No item that tests or validates reaches training, and none that tests reaches the choice of weights: for
every model.

The held-out items of all users are drawn anew (more than a permutation among users, which leaves their counts
as they were). What may not have seen them must come out the same to the last bit."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors import safe_open

from pipelines import artifacts
from pipelines.models.registry import MODELS, model_config
from pipelines.train import loop, tune
from pipelines.train.config import TrainConfig
from pipelines.train.plan import Plan
from pipelines.train.run import train_run
from pipelines.train.spaces import Choices, FloatRange
from pipelines.workspace import Run, Workspace
from tests.conftest import ListProgress, write_toy
from tests.train.conftest import write_sids
from tests.train.test_dense import write_sids as write_sids_of_text
from tests.train.test_dense import write_text

USERS, ITEMS = 60, 60
SIZES = {"layers": 1, "width": 16, "heads": 2, "mlp": 32, "dropout": 0.1, "max_items": 4}
OWN = {
    "dreamrec": {"timesteps": 20},
    "cadirec": {"timesteps": 20, "sampling_steps": 2},
    "diffgrm": {"decoder_layers": 1, "views": 2},
}
SCHEDULE = {
    "steps": 6,
    "batch_size": 24,
    "learning_rate": 0.01,
    "validations": 3,
    "precision": "fp32",
    "seed": 5,
}
VARIANTS = [(name, {}, {}) for name in MODELS] + [
    ("maskgr", {"dense": True}, {}),
    ("maskgr", {}, {"horizon": 2}),
    ("maskgr", {}, {"drop_items": 0.4, "validation_users": 40}),
    ("maskgr", {}, {"drop_items": 0.4, "validation_users": 40, "shuffle": "groups"}),
]
TIMED = {"seconds", "tokens_per_second"}


@pytest.fixture
def data(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Users of four to nine random items, with text embeddings and semantic IDs that no sequence decides."""
    monkeypatch.setattr(loop, "RECORD_EVERY", 1)
    write_toy(workspace, USERS, ITEMS)
    rng = np.random.default_rng(1)
    write_sequences(workspace, [rng.integers(0, ITEMS, rng.integers(5, 10)).tolist() for _ in range(USERS)])
    return workspace


def write_sequences(workspace: Workspace, sequences: list[list[int]]) -> None:
    path = workspace.require_dataset().sequences
    table = artifacts.read(path, "sequences").set_column(
        2, "items", pa.array(sequences, pa.list_(pa.int32()))
    )
    artifacts.write(path, "sequences", table, config={})


def redraw(workspace: Workspace, last: int) -> None:
    """Put others in place of each user's last items."""
    rows = artifacts.read(workspace.require_dataset().sequences, "sequences")["items"].to_pylist()
    rng = np.random.default_rng(2)
    write_sequences(workspace, [[*row[:-last], *rng.integers(0, ITEMS, last).tolist()] for row in rows])


def plan_of(
    workspace: Workspace, model: str, model_settings: dict[str, Any], schedule: dict[str, Any]
) -> Plan:
    config = model_config(model, {**SIZES, **OWN.get(model, {}), **model_settings})
    sids = None
    if "embeddings" in config.training_needs:
        write_text(workspace)
        sids = "of-text"
        write_sids_of_text(
            workspace, sids, np.stack(np.unravel_index(np.arange(ITEMS), (16, 16)), 1).astype(np.int16)
        )
    elif "sids" in config.training_needs:
        sids = write_sids(workspace)
    return Plan("toy", sids, model, "test", config, TrainConfig(**{**SCHEDULE, **schedule}))


def figures(run: Run, *measures: str) -> list[tuple[int, str, float]]:
    """What history.parquet holds of these measures, or of all that do not depend on the machine's speed."""
    rows = artifacts.read(run.history, "history").to_pylist()
    return [
        tuple(row.values())
        for row in rows
        if (row["measure"] in measures if measures else row["measure"] not in TIMED)
    ]


def same_state(one: Run, two: Run) -> bool:
    """Whether two trainings ended with the same weights and optimiser moments, to the last bit."""
    with safe_open(one.state, "pt") as first, safe_open(two.state, "pt") as second:
        names = set(first.keys())
        assert any(name.startswith(("optimizer.", "model.interactions")) for name in names)
        return names == set(second.keys()) and all(
            torch.equal(first.get_tensor(name), second.get_tensor(name)) for name in names
        )


@pytest.mark.parametrize(
    ("model", "model_settings", "schedule"),
    VARIANTS,
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_training_sees_no_held_out_item(
    data: Workspace,
    progress: ListProgress,
    model: str,
    model_settings: dict[str, Any],
    schedule: dict[str, Any],
) -> None:
    plan, k = plan_of(data, model, model_settings, schedule), schedule.get("horizon", 1)
    before = train_run(data, plan, progress, name="before")
    redraw(data, k)
    tested = train_run(data, plan, progress, name="tested")
    assert same_state(before, tested)
    assert tested.weights.read_bytes() == before.weights.read_bytes()  # of the best validation
    assert figures(tested) == figures(before)
    assert json.loads(tested.config.read_text())["best"] == json.loads(before.config.read_text())["best"]
    redraw(data, 2 * k)
    validated = train_run(data, plan, progress, name="validated")
    assert same_state(before, validated)
    assert figures(validated, "loss") == figures(before, "loss")
    assert figures(validated, "recall@10") != figures(before, "recall@10")


def test_what_is_trained_on_decides_the_weights(data: Workspace, progress: ListProgress) -> None:
    """The comparison can fail: an item further back is seen."""
    plan = plan_of(data, "sasrec", {}, {})
    before = train_run(data, plan, progress, name="before")
    redraw(data, 3)
    assert not same_state(before, train_run(data, plan, progress, name="after"))


def test_a_search_for_hyperparameters_sees_no_test_item(
    data: Workspace, progress: ListProgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its trials and their results are the same where the last items are others; not where those before them
    are.
    """
    space = {
        "dropout": FloatRange(0.0, 0.8),
        "layers": Choices((1, 2)),
        "learning_rate": FloatRange(1e-4, 1e-1, log=True),
    }

    def configured(values: dict[str, Any]) -> Plan:
        of_training = {"learning_rate"} & values.keys()
        schedule = {name: values[name] for name in of_training}
        return plan_of(
            data,
            "sasrec",
            {name: value for name, value in values.items() if name not in of_training},
            schedule,
        )

    def trials(name: str) -> list[dict[str, Any]]:
        looks = iter(range(8))  # at the clock: a trial begins at each, until the minutes are used up
        with monkeypatch.context() as patch:
            patch.setattr(tune, "time", type("Clock", (), {"monotonic": lambda: 60 * next(looks)}))
            rows = artifacts.read(tune.tune(data, configured, space, name, 5, progress), "trials").to_pylist()
        return [{column: value for column, value in row.items() if column != "seconds"} for row in rows]

    before = trials("before")
    assert len({row["trial"] for row in before}) >= 4
    redraw(data, 1)
    assert trials("tested") == before
    redraw(data, 2)
    assert [row["recall"] for row in trials("validated")] != [row["recall"] for row in before]
