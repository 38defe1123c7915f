"""The bound of the memory that training needs, against the formula by hand."""

from __future__ import annotations

import pytest

from pipelines.errors import UserError
from pipelines.models.registry import model_config
from pipelines.train import memory
from pipelines.train.config import TrainConfig

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
