"""A workspace with a short run of every model."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pyarrow as pa
import pytest

from pipelines import artifacts
from pipelines.recommend.load import load
from pipelines.recommend.model import Model
from pipelines.train.run import train_run
from pipelines.workspace import Workspace
from tests.conftest import ListProgress, write_toy
from tests.train.test_leakage import ITEMS, USERS, plan_of

STEPS = {"steps": 2, "validations": 1, "batch_size": 50}


@pytest.fixture(scope="package")
def store(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The toy data set with titles, categories, prices and tags: item i has title "Thing i", is of group
    i // 10 and costs i; every seventh has no price.
    """
    workspace = write_toy(Workspace(tmp_path_factory.mktemp("recommend") / "workspace"), USERS, ITEMS)
    path = workspace.require_dataset().items
    columns = {
        "title": [f"Thing {i}" for i in range(ITEMS)],
        "group": [f"group {i // 10}" for i in range(ITEMS)],
        "price": [None if i % 7 == 0 else float(i) for i in range(ITEMS)],
        "tags": [["even" if i % 2 == 0 else "odd", "all"] for i in range(ITEMS)],
    }
    table = artifacts.read(path, "items")
    for name, values in columns.items():
        table = table.append_column(name, pa.array(values))
    artifacts.write(path, "items", table, config={})
    return workspace


@pytest.fixture(scope="package")
def model(store: Workspace) -> Callable[..., Model]:
    """Return a loaded run of a model by name, trained for two steps: `model("maskgr", tokens="item")`."""

    @functools.cache
    def loaded(name: str, **settings: object) -> Model:
        run = "-".join((name, *map(str, settings.values())))
        train_run(store, plan_of(store, name, dict(settings), STEPS), ListProgress(), name=run)
        return load(run, workspace=store.root, device="cpu")

    return loaded
