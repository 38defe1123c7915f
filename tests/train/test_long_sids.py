"""Semantic IDs of more digits than a 64-bit number counts: made, trained on, and decoded in every order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pipelines import artifacts
from pipelines.decode.config import UNMASKINGS, Decoding
from pipelines.evaluate.config import EvalConfig
from pipelines.evaluate.run import evaluate_run
from pipelines.train.configure import configure
from pipelines.train.plan import Plan
from pipelines.train.run import train_run
from pipelines.workspace import Workspace
from tests.conftest import ListProgress
from tests.train.conftest import write_sids

DIGITS_APART: dict[str, Any] = {
    "tokens": "digit",
    "likelihood": "digit",
    "item_embeddings": False,
    "repeat_bias": False,
}
ITEM_SOFTMAX: dict[str, Any] = {"tokens": "item", "likelihood": "item", "negatives": 16}


@pytest.mark.parametrize(
    ("digits", "settings"),
    [
        (9, {**DIGITS_APART, "attention": "full"}),
        (33, {**DIGITS_APART, "attention": "prefix"}),
        (9, {**ITEM_SOFTMAX, "attention": "prefix"}),
        (33, {**ITEM_SOFTMAX, "negatives": 0, "attention": "full", "item_embeddings": False}),
    ],
    ids=["9-digits-apart", "33-digits-apart", "9-negatives", "33-item-softmax"],
)
def test_train_and_decode_in_every_order(
    toy: Workspace, progress: ListProgress, digits: int, settings: dict[str, Any]
) -> None:
    sids = write_sids(toy, "long", digits=digits, codes=256)
    options = {"steps": 2, "validations": 1, "validation_users": 20, **settings}
    config, schedule = configure("maskgr", "smoke", options)
    run = train_run(toy, Plan("toy", sids, "maskgr", "smoke", config, schedule), progress, name="run")
    losses = [
        row["value"] for row in artifacts.read(run.history, "history").to_pylist() if row["measure"] == "loss"
    ]
    assert losses and np.isfinite(losses).all()
    for unmask in UNMASKINGS:
        decoding = Decoding(unmask=unmask, nfe=3, beams=5, exclude_seen=unmask == "random")
        evaluate_run(toy, run, EvalConfig(decoding, users=5), progress)
    assert any(f"semantic IDs of {digits} digits" in message for message in progress.messages)


def test_from_a_data_set_to_recommendations(toy: Workspace, maskgr: Callable[..., Any]) -> None:
    few = ("--steps", 2, "--validation-users", 5)
    commands = [
        ["tokenize", "--sids", 32, "--codebook", 256, "--method", "random", "--name", "long"],
        ["train", "--semantic-ids", "long", "--preset", "smoke", *few, "--name", "run"],
        ["eval", "run", "--unmask", "random", "--nfe", 4, "--users", 5, "--exclude-seen"],
        ["recommend", "run", "--user", "user-3", "--nfe", 8, "--unmask", "greedy"],
    ]
    for command in commands:
        done = maskgr(*command)
        assert done.returncode == 0, done.stderr
    assert "item-" in done.stdout
