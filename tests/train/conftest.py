"""A toy catalogue with semantic IDs, and how to train on it in seconds."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from pipelines import artifacts
from pipelines.models.sid_models.config import MaskGRConfig
from pipelines.train.config import TrainConfig
from pipelines.train.plan import Plan
from pipelines.workspace import Workspace

SIZES = MaskGRConfig(layers=1, width=32, heads=2, mlp=64, dropout=0.1, max_items=8)
SCHEDULE = TrainConfig(steps=12, batch_size=32, learning_rate=0.01, validations=3, precision="fp32")


def write_sids(workspace: Workspace, name: str = "toy-sids", digits: int = 3, codes: int = 8) -> str:
    """Random distinct SIDs for every item of the current data set."""
    dataset = workspace.require_dataset()
    N = artifacts.read(dataset.items, "items").num_rows
    numbers = np.random.default_rng(0).choice(codes**digits, N, replace=False)
    sids = np.stack(np.unravel_index(numbers, (codes,) * digits), axis=1).astype(np.int16)
    table = pa.table({"item": pa.array(range(N), pa.int32()), "sid": artifacts.fixed_size_list(sids)})
    artifacts.write(
        dataset.sids(name),
        "sids",
        table,
        config={"codebook": codes, "layers": digits - 1},
        inputs={"items": dataset.items},
    )
    return name


@pytest.fixture
def sids(toy: Workspace) -> str:
    return write_sids(toy)


def plan(sids: str, **changes: object) -> Plan:
    """A short training of a tiny model; keywords replace hyperparameters."""
    model_settings = {f.name for f in dataclasses.fields(MaskGRConfig)}
    of_model = {k: v for k, v in changes.items() if k in model_settings}
    of_train = {k: v for k, v in changes.items() if k not in model_settings}
    return Plan(
        "toy",
        sids,
        "maskgr",
        "test",
        dataclasses.replace(SIZES, **of_model),
        dataclasses.replace(SCHEDULE, **of_train),
    )
