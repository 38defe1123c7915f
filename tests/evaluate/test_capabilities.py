"""What a model is asked for where a person leaves it open, and what it refuses."""

from __future__ import annotations

import pytest

from pipelines.decode.config import Decoding
from pipelines.errors import UserError
from pipelines.evaluate.capabilities import resolve_decoding, unsupported, without
from pipelines.evaluate.run import evaluate_run
from pipelines.models.item_models.config import SASRecConfig
from pipelines.train.config import TrainConfig
from pipelines.train.run import Plan, train_run
from pipelines.workspace import Workspace
from tests.conftest import ListProgress
from tests.models.test_every_model import build


def test_what_is_left_open_is_the_models_own() -> None:
    assert resolve_decoding(Decoding(), build("sasrec")).name == "ranking-k20"
    assert resolve_decoding(Decoding(), build("maskgr")).name == "greedy-k20-constrained"
    assert resolve_decoding(Decoding(), build("maskgr", dense=True)).retrieval == "generative"
    assert (
        resolve_decoding(Decoding(retrieval="unified", unmask="random"), build("maskgr", dense=True)).name
        == "unified-random0-k20-constrained"
    )


@pytest.mark.parametrize(
    ("model", "asked", "named"),
    [
        ("sasrec", {"unmask": "greedy", "nfe": 3}, "--unmask, --nfe means nothing to --model sasrec"),
        ("sasrec", {"constrained": False}, "--no-constrained means nothing to --model sasrec"),
        (
            "sasrec",
            {"retrieval": "generative"},
            "--retrieval generative is nothing this run can do. Its --model sasrec knows ranking",
        ),
        (
            "maskgr",
            {"retrieval": "ranking"},
            "--retrieval ranking is nothing this run can do. Its --model maskgr knows generative",
        ),
        ("maskgr", {"retrieval": "dense"}, "Train one with: maskgr train --dense"),
    ],
)
def test_what_a_model_cannot_is_refused(model: str, asked: dict, named: str) -> None:
    with pytest.raises(UserError, match=named):
        resolve_decoding(Decoding(**asked), build(model))


def test_what_means_nothing_can_be_left_out() -> None:
    decoding, model = Decoding(nfe=3, beams=7, exclude_seen=True), build("sasrec")
    assert unsupported(decoding, model) == ["nfe"]
    assert without(decoding, ["nfe"]) == Decoding(beams=7, exclude_seen=True)
    assert unsupported(decoding, build("maskgr")) == []


def test_a_ranker_is_trained_and_measured_without_semantic_ids(
    toy: Workspace, progress: ListProgress
) -> None:
    sizes = SASRecConfig(layers=1, width=32, heads=2, mlp=64, dropout=0.0, max_items=8)
    schedule = TrainConfig(steps=60, batch_size=64, learning_rate=0.01, validations=2, precision="fp32")
    run = train_run(toy, Plan("toy", None, "sasrec", "test", sizes, schedule), progress)
    found = evaluate_run(toy, run, Decoding(beams=10, nfe=2), progress, precision="fp32", among=True)
    assert any(
        message.startswith(f"--nfe means nothing to {run.name}, a sasrec") for message in progress.messages
    )
    assert found.folder.name == "ranking-k10"
    assert found.description == "toy · softmax loss · 10 of 60 items"
    values = {(r["metric"], r["k"]): r["value"] for r in found.metrics.to_pylist()}
    assert values["recall", 5] > 0.8
    assert values["invalid_rate", None] == 0
    with pytest.raises(UserError, match="--nfe means nothing to --model sasrec"):
        evaluate_run(toy, run, Decoding(nfe=2), progress)
