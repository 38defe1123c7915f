"""A toy catalogue with semantic IDs, and how to train on it in seconds."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

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
    rng = np.random.default_rng(0)
    last = min(digits, 3)  # digits that distinguish the items
    numbers = rng.choice(codes**last, N, replace=False)
    sids = np.stack(np.unravel_index(numbers, (codes,) * last), axis=1)
    sids = np.column_stack([rng.integers(0, codes, (N, digits - last)), sids]).astype(np.int16)
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


def grow_items(workspace: Workspace, sids: str | None, new: int = 5) -> None:
    """Append items to the catalogue, with semantic IDs that no item has, and text embeddings where the
    semantic IDs were made of them.
    """
    dataset = workspace.require_dataset()
    items = artifacts.read(dataset.items, "items")
    N = len(items)
    more = {
        "item": pa.array(range(N, N + new), pa.int32()),
        "item_id": [f"new-{i}" for i in range(new)],
        "text": [f"new number {i}" for i in range(new)],
    }
    artifacts.write(dataset.items, "items", pa.concat_tables([items, pa.table(more)]), config={})
    if not sids:
        return
    path = dataset.sids(sids)
    provenance = artifacts.provenance(path)
    inputs = {"items": dataset.items}
    if "embeddings" in provenance["inputs"]:
        inputs["embeddings"] = path.parent / provenance["inputs"]["embeddings"]["path"]
        table = artifacts.read(inputs["embeddings"], "embeddings")
        old = artifacts.matrix(table, "embedding", inputs["embeddings"])
        write_rows(inputs["embeddings"], "embeddings", np.concatenate((old, old[:new] + 1)), {})
    old = artifacts.matrix(artifacts.read(path, "sids"), "sid", path)
    taken = {tuple(row) for row in old.tolist()}
    free = (codes for codes in itertools.product(range(8), repeat=old.shape[1]) if codes not in taken)
    added = np.array(list(itertools.islice(free, new)), np.int16)
    write_rows(path, "sids", np.concatenate((old, added)), provenance["config"], inputs)


def write_rows(
    path: Path,
    kind: str,
    rows: np.ndarray,
    config: dict[str, object],
    inputs: dict[str, Path] | None = None,
) -> None:
    """Write semantic IDs or embeddings."""
    column = "sid" if kind == "sids" else "embedding"
    if kind == "sids":
        assert len(np.unique(rows, axis=0)) == len(rows)
    table = pa.table(
        {"item": pa.array(range(len(rows)), pa.int32()), column: artifacts.fixed_size_list(rows)}
    )
    artifacts.write(path, kind, table, config=config, inputs=inputs)


def append_interactions(workspace: Workspace, users: list[list[int]], taken: list[int]) -> None:
    """Append an item to each user's sequence in turn, and new users after the old ones."""
    path = workspace.require_dataset().sequences
    rows = artifacts.read(path, "sequences")["items"].to_pylist()
    rows = [[*row, taken[user]] if user < len(taken) else row for user, row in enumerate(rows)] + users
    table = pa.table(
        {
            "user": pa.array(range(len(rows)), pa.int32()),
            "user_id": [f"user-{u}" for u in range(len(rows))],
            "items": pa.array(rows, pa.list_(pa.int32())),
        }
    )
    artifacts.write(path, "sequences", table, config={})
