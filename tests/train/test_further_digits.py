"""Semantic IDs with two deduplication digits train like those with one, in every model over semantic IDs."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines import artifacts
from pipelines.models.registry import MODELS
from pipelines.tokenize.build import build_sids
from pipelines.tokenize.config import TokenizeConfig
from pipelines.train.configure import configure
from pipelines.train.plan import Plan
from pipelines.train.run import train_run
from pipelines.workspace import Workspace
from tests.conftest import ListProgress
from tests.tokenize.test_build import embed, grouped, read_sids


@pytest.mark.parametrize(
    "model", [name for name, config in MODELS.items() if "sids" in config().training_needs]
)
def test_one_step(toy: Workspace, progress: ListProgress, model: str) -> None:
    dataset = toy.dataset("toy")
    vectors = grouped()
    vectors[:40] = vectors[0]
    embed(dataset, vectors)
    path = build_sids(dataset, TokenizeConfig(2, 8), progress)
    assert read_sids(path).shape == (60, 4)
    settings, schedule = configure(model, "smoke", {"steps": 1, "validations": 1, "validation_users": 20})
    plan = Plan("toy", path.stem, model, "smoke", settings, schedule)
    run = train_run(toy, plan, progress, name="run")
    losses = [
        row["value"] for row in artifacts.read(run.history, "history").to_pylist() if row["measure"] == "loss"
    ]
    assert losses and np.isfinite(losses).all()
    assert run.read_config()["best"] is not None
