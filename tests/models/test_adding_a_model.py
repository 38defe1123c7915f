"""The example of docs/adding-a-model.md: its code blocks run, and its model is trained and evaluated."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.decode.config import Decoding
from pipelines.evaluate.config import EvalConfig
from pipelines.evaluate.run import evaluate_run
from pipelines.models.item_models import config
from pipelines.models.registry import MODELS
from pipelines.train.configure import configure
from pipelines.train.plan import Plan
from pipelines.train.presets import PRESET_NAMES, PRESETS
from pipelines.train.run import train_run
from pipelines.workspace import Workspace
from tests.conftest import ROOT, ListProgress
from tests.models import test_every_model

DOCUMENT = ROOT / "docs" / "adding-a-model.md"
NAME = "bigram"


def blocks() -> dict[str, str]:
    """Python blocks of the document by the words of their first line, a comment."""
    found = re.findall(
        r"^```python\n# (.+?)\n(.*?)^```$", DOCUMENT.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    return dict(found)


def run_block(code: str, namespace: dict[str, object]) -> None:
    """Run a block in the namespace of the module that it belongs to."""
    exec(compile(code, str(DOCUMENT), "exec"), namespace)  # annotations are strings, as in this file


@pytest.fixture
def bigram(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Name of the document's model, which is registered for one test."""
    for registry in (MODELS, PRESETS):
        monkeypatch.setitem(registry, NAME, None)  # restored, that is removed, after the test
    code, before = blocks(), dict(vars(config))
    module = types.ModuleType("pipelines.models.item_models.bigram")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    try:
        run_block(code["pipelines/models/item_models/config.py"], vars(config))
        run_block(code["pipelines/models/item_models/bigram.py"], vars(module))
        run_block(code["registration"], {"__name__": "registration"})
        yield NAME
    finally:
        for name in vars(config).keys() - before.keys():
            delattr(config, name)


def test_the_blocks_are_those_of_the_text() -> None:
    assert list(blocks()) == [
        "pipelines/models/item_models/config.py",
        "pipelines/models/item_models/bigram.py",
        "registration",
    ]
    assert NAME not in MODELS
    assert not (ROOT / "pipelines" / "models" / "item_models" / "bigram.py").exists()


def test_it_trains_and_is_evaluated(bigram: str, toy: Workspace, progress: ListProgress) -> None:
    settings, schedule = configure(bigram, "smoke", {"steps": 60, "max_items": 8, "precision": "fp32"})
    run = train_run(toy, Plan("toy", None, bigram, "smoke", settings, schedule), progress)
    found = evaluate_run(toy, run, EvalConfig(Decoding(beams=10), precision="fp32"), progress)
    recall = {row["k"]: row["value"] for row in found.metrics.to_pylist() if row["metric"] == "recall"}
    popular = {row["k"]: row["value"] for row in found.popularity.to_pylist() if row["metric"] == "recall"}
    assert recall[10] > 0.8 > popular[10]
    assert (found.folder / "ranks.parquet").exists()


def test_it_has_the_three_presets(bigram: str) -> None:
    for name in PRESET_NAMES:
        model_settings, schedule = configure(bigram, name, {})
        assert (model_settings.name, schedule.minutes) == (NAME, None)


def test_it_passes_the_tests_of_every_model(
    bigram: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test_every_model.test_it_learns_what_comes_next(bigram)
    test_every_model.test_a_batch_is_its_members(bigram)
    test_every_model.test_scores_are_float32_in_any_precision(bigram)
    test_every_model.test_items_are_numbers_without_meaning(bigram)
    test_every_model.test_no_item_is_found_twice(bigram)
    test_every_model.test_save_and_load_change_nothing(bigram, tmp_path)
    test_every_model.test_padding_changes_no_loss(bigram)
    test_every_model.test_a_training_step_asks_its_device_for_nothing(bigram, monkeypatch)
