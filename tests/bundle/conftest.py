"""Bundles of short runs of every model."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.bundle.build import export_run
from pipelines.bundle.config import BundleConfig
from pipelines.recommend.model import Model
from pipelines.workspace import Workspace
from tests.conftest import ListProgress
from tests.recommend.conftest import model as model
from tests.recommend.conftest import store as store

SOFTMAX = {"tokens": "item", "likelihood": "item", "attention": "prefix", "item_embeddings": True}
HISTORY = ["item-3", "item-4", "item-5"]
Bundled = Callable[..., Path]


@pytest.fixture(scope="package")
def bundled(
    store: Workspace, model: Callable[..., Model], tmp_path_factory: pytest.TempPathFactory
) -> Bundled:
    """Export a run of a model by name, as `model` trains it: `bundled("maskgr", tokens="item")`."""

    @functools.cache
    def exported(name: str, **settings: object) -> Path:
        folder = tmp_path_factory.mktemp("bundles") / "bundle"
        run = model(name, **settings).run
        export_run(store, run, folder, BundleConfig(), ListProgress())
        return folder

    return exported
