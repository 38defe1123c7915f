"""Settings of decoding: the defaults of a model, and the settings that it refuses."""

from __future__ import annotations

import pytest

from pipelines.decode.config import Decoding
from pipelines.errors import UserError
from pipelines.evaluate.capabilities import resolve_decoding, unsupported, without
from pipelines.evaluate.config import EvalConfig
from pipelines.evaluate.run import evaluate_run
from pipelines.models.item_models.config import SASRecConfig
from pipelines.train.config import TrainConfig
from pipelines.train.plan import Plan
from pipelines.train.run import train_run
from pipelines.workspace import Workspace
from tests.conftest import ListProgress
from tests.models.test_every_model import build


def test_open_settings_have_the_defaults_of_the_model() -> None:
    assert resolve_decoding(Decoding(), build("sasrec")).name == "ranking-k20"
    assert resolve_decoding(Decoding(), build("maskgr")).name == "greedy-k20-constrained"
    assert resolve_decoding(Decoding(), build("maskgr", dense=True)).retrieval == "generative"
    assert (
        resolve_decoding(Decoding(retrieval="unified", unmask="random"), build("maskgr", dense=True)).name
        == "unified-random0-k20-constrained"
    )


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        (
            "sasrec",
            {"unmask": "greedy", "nfe": 3},
            "^--unmask, --nfe have no effect on this run of --model sasrec. Leave them out.$",
        ),
        (
            "sasrec",
            {"constrained": False},
            "^--no-constrained has no effect on this run of --model sasrec. Leave it out.$",
        ),
        (
            "sasrec",
            {"retrieval": "generative"},
            "--retrieval generative: this run of --model sasrec supports ranking alone.",
        ),
        (
            "maskgr",
            {"retrieval": "ranking"},
            "--retrieval ranking: this run of --model maskgr supports generative alone.",
        ),
        ("maskgr", {"retrieval": "dense"}, "Train one with: maskgr train --dense"),
        ("tiger", {"approximate": True}, "which encodes histories once anyway, exactly. Leave it out.$"),
        ("tiger", {"approximate": True, "nfe": 2}, "have no effect on this run of --model tiger. Leave them"),
    ],
)
def test_settings_that_a_model_does_not_support_are_refused(model: str, settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        resolve_decoding(Decoding(**settings), build(model))


def test_an_item_softmax_needs_no_constraint() -> None:
    """The message gives a reason if it applies to all settings."""
    model = build("maskgr", likelihood="item")
    with pytest.raises(UserError) as raised:
        resolve_decoding(Decoding(constrained=False), model)
    assert str(raised.value) == (
        "--no-constrained has no effect on this run of --model maskgr, whose item softmax gives what is no "
        "item no probability. Leave it out."
    )
    model = build("maskgr", likelihood="item", attention="prefix", next_item=0.0)
    with pytest.raises(
        UserError, match="^--no-constrained, --approximate have no effect on this run of --model"
    ):
        resolve_decoding(Decoding(constrained=False, approximate=True), model)


def test_settings_without_effect_can_be_removed() -> None:
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
    config = EvalConfig(Decoding(beams=10, nfe=2), precision="fp32")
    evaluation = evaluate_run(toy, run, config, progress, among=True)
    assert f"Left out, without effect on {run.name} (sasrec): --nfe." in progress.messages
    assert evaluation.folder.name == "ranking-k10"
    assert evaluation.description == "toy · softmax loss · 10 of 60 items"
    values = {(r["metric"], r["k"]): r["value"] for r in evaluation.metrics.to_pylist()}
    assert values["recall", 5] > 0.8
    assert values["invalid_rate", None] == 0
    evaluate_run(toy, run, config, progress, among=True)
    assert progress.messages[-1].startswith(f"{run.name} is evaluated already")
    evaluate_run(toy, run, config, progress, among=True, force=True)
    assert progress.messages[-1].startswith("Decoded 200 users in")
    with pytest.raises(UserError, match="--nfe has no effect on this run of --model sasrec"):
        evaluate_run(toy, run, config, progress)
