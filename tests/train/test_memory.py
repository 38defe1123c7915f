"""The bound of the memory that training needs, against the formula by hand; its estimate, against the bytes
of all tensors of a step.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState

from benchmarks.memory import measured as measure
from pipelines.data.catalogue import Catalogue
from pipelines.data.sequences import load_sequences
from pipelines.data.splits import training
from pipelines.errors import UserError
from pipelines.models.loading import build
from pipelines.models.registry import model_config
from pipelines.train import memory
from pipelines.train.accelerator import start_accelerate
from pipelines.train.batches import Batches
from pipelines.train.config import TrainConfig
from pipelines.train.configure import configure
from pipelines.train.loop import Trainer
from pipelines.train.optimizers import sparse_tables
from pipelines.train.plan import Plan
from pipelines.workspace import Workspace

SIZES = {"layers": 3, "width": 32, "heads": 2, "mlp": 48, "max_items": 10}
BLOCKS = 3 * (4 * 32**2 + 2 * 32 * 48)  # parameters
PER_TOKEN = 3 * (4 * 32 + 48)  # activations


@pytest.mark.parametrize(
    ("model", "train", "items", "need"),
    [
        ("maskgr", {"batch_size": 8, "micro_tokens": 64}, 0, 16 * BLOCKS + 4 * 64 * PER_TOKEN),
        (
            "maskgr",
            {"batch_size": 4, "micro_tokens": 64},
            0,
            16 * BLOCKS + 4 * 40 * PER_TOKEN,
        ),  # 4 windows of 10
        ("maskgr", {"batch_size": 900}, 500, 16 * BLOCKS + 4 * 2048 * PER_TOKEN),  # items have no embedding
        ("sasrec", {"batch_size": 4, "micro_tokens": 99}, 500, 16 * (BLOCKS + 500 * 32) + 4 * 44 * PER_TOKEN),
    ],
)
def test_the_bound(
    model: str, train: dict[str, int], items: int, need: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, schedule = model_config(model, SIZES), TrainConfig(steps=1, **train)
    monkeypatch.setattr(memory, "_largest_gpu", lambda: 0)
    monkeypatch.setattr(memory, "_memory", lambda: need)
    memory.check_memory(config, schedule, items)
    monkeypatch.setattr(memory, "_memory", lambda: need - 1)
    with pytest.raises(UserError, match=r"needs at least 0 GiB to train on"):
        memory.check_memory(config, schedule, items)
    monkeypatch.setattr(memory, "_largest_gpu", lambda: need)
    memory.check_memory(config, schedule, items)


def a_trainer(preset: str, toy: Workspace, **settings: Any) -> Trainer:
    model_settings, schedule = configure("maskgr", preset, {"batch_size": 16, "micro_tokens": 256} | settings)
    sids = np.stack(np.unravel_index(np.arange(60), (4, 4, 4)), axis=1)
    sequences = training(load_sequences(toy.dataset("toy").sequences))
    AcceleratorState._reset_state(reset_partial_state=True)
    return Trainer(
        build(model_settings, Catalogue.of(sids, 4)),
        Batches(sequences, schedule.batch_size, model_settings.window, 0),
        schedule,
        start_accelerate("fp32"),
    )


@pytest.mark.parametrize(
    ("preset", "settings"),
    [
        ("small", {}),
        ("small", {"micro_tokens": 64}),
        ("small", {"width": 128, "mlp": 512, "negatives": 8, "repeat_bias": False}),
        ("small", {"likelihood": "digit", "repeat_bias": False}),
        ("paper", {"layers": 2, "mlp": 512}),
        ("smoke", {}),
    ],
)
def test_the_estimate_is_near_the_bytes_of_all_tensors(
    preset: str, settings: dict[str, Any], toy: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    trainer = a_trainer(preset, toy, **settings)
    estimated = memory.estimate(trainer, index=7)
    measured = measure(trainer)
    parameters = list(trainer.unwrapped_model.parameters())
    moments = [
        value
        for optimizer in trainer.optimizers
        for state in optimizer.state_dict()["state"].values()
        for value in state.values()
        if isinstance(value, torch.Tensor) and value.ndim  # not a number of steps
    ]
    tables = sum(table.nbytes for table in sparse_tables(trainer.unwrapped_model).values())
    assert estimated.parameters == sum(p.nbytes for p in parameters)
    assert estimated.gradients == estimated.parameters - tables
    assert estimated.moments == sum(moment.nbytes for moment in moments)
    assert estimated.data == sum(buffer.nbytes for buffer in trainer.unwrapped_model.buffers())
    items = trainer.unwrapped_model.items if "negatives" in settings else 0
    assert estimated.index == 7 + 12 * 3 * items  # three digits have three orders
    assert estimated.total == sum(vars(estimated).values())
    assert 0.5 < (estimated.total - 7) / measured < 2


def test_a_table_with_sparse_gradients_counts_once_less(
    toy: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    trainer = a_trainer("small", toy)
    dense = memory.estimate(trainer)
    table = trainer.unwrapped_model.item_embedding
    table.sparse = True
    assert memory.estimate(trainer).gradients == dense.gradients - table.weight.nbytes


@pytest.mark.parametrize(
    ("model", "settings", "logits"),
    [
        ("maskgr", {}, 12),
        ("maskgr", {"tokens": "item", "likelihood": "item"}, 500),
        ("maskgr", {"tokens": "item", "likelihood": "item", "negatives": 9}, 9),
        ("liger", {"negatives": 9}, 12 + 9),
        ("sasrec", {}, 500),
        ("sasrec", {"loss": "bce"}, 2),
        ("bert4rec", {"negatives": 9}, 9),
        ("dreamrec", {}, 0),
        ("dreamrec", {"ranking": 1.0}, 500),
    ],
)
def test_the_logits_of_a_target(model: str, settings: dict[str, Any], logits: int) -> None:
    assert model_config(model, settings).logits(500, 12) == logits


@pytest.mark.parametrize(
    ("preset", "settings", "options"),
    [
        ("paper", {"micro_tokens": 4096}, "--micro-tokens (4,096), --width (128), or --layers (8), and"),
        ("small", {}, "--width (64), --layers (2), or compare with some items only (--negatives 1024), and"),
        ("small", {"negatives": 99, "repeat_bias": False}, "on a GPU), --negatives (99), --width (64), or"),
    ],
)
def test_the_advice_names_the_options_that_the_model_reads(
    preset: str, settings: dict[str, Any], options: str
) -> None:
    plan = Plan("toy", None, "maskgr", preset, *configure("maskgr", preset, settings))
    assert options in memory.advice(plan)


def test_the_line_says_where_the_memory_is_too_small() -> None:
    estimated = memory.Memory(*(2**30 * n for n in (1, 1, 2, 0, 0, 4)))
    assert estimated.describe("cuda", 2048, 2.0**40) == (
        "Memory, estimated: 8 GiB on cuda (parameters 1, gradients 1, moments 2, "
        "a forward pass of 2,048 tokens 4); 3 GiB on the host while it saves."
    )
    assert estimated.describe("cpu", 2048, 2.0**40).endswith("tokens 4).")
    too_small = estimated.describe("cuda", 2048, 5 * 2.0**30)
    assert "8 GiB on cuda, which has 5 GiB: lower --micro-tokens (" in too_small
