"""Semantic IDs of more digits than a 64-bit number counts: made, trained on, and decoded in every order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from pipelines import artifacts
from pipelines.data.sequences import load_sequences
from pipelines.decode.build_index import build_index
from pipelines.decode.config import UNMASKINGS, Decoding
from pipelines.evaluate.config import EvalConfig
from pipelines.evaluate.recommend import recommend
from pipelines.evaluate.run import evaluate_run
from pipelines.models.loading import load_run
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


@pytest.mark.parametrize("digits", [9, 33])
def test_guidance_ranks_by_the_formula(toy: Workspace, progress: ListProgress, digits: int) -> None:
    """One evaluation of independent digits ranks items by the sum of the digits' guided log-probabilities."""
    sids = write_sids(toy, "long", digits=digits, codes=256)
    options = {"steps": 2, "validations": 1, "validation_users": 20, "history_dropout": 0.2}
    config, schedule = configure("maskgr", "smoke", {**DIGITS_APART, "attention": "prefix", **options})
    run = train_run(toy, Plan("toy", sids, "maskgr", "smoke", config, schedule), progress, name="run")
    loaded = load_run(toy, run, torch.device("cpu"))
    model, sids_of = loaded.model, torch.as_tensor(loaded.catalogue.require_sids()).long()
    users = loaded.split(load_sequences(loaded.dataset.sequences), "test").rows(np.arange(5))
    weight, N = 1.5, len(sids_of)
    index = build_index(sids_of.numpy(), 256, None)
    found = recommend(model, users, index, Decoding(nfe=1, beams=N, guidance=weight), progress)
    masked = torch.full((1, 1, digits), 256)
    with torch.no_grad():
        for row in range(5):
            history = torch.as_tensor(users.padded(np.array([row]), model.config.max_items)).long()
            given, alone = (model.denoiser(h)(masked)[0, 0] for h in (history, history[:, :0]))
            guided = ((1 + weight) * given - weight * alone).log_softmax(-1)  # [H, V]
            expected = guided[torch.arange(digits), sids_of].sum(1)  # [N]
            own = torch.as_tensor(found.items[row, :, 0])
            torch.testing.assert_close(
                torch.as_tensor(found.scores[row]), expected[own], atol=1e-3, rtol=1e-4
            )
            assert sorted(own.tolist()) == list(range(N))
    several = recommend(model, users, index, Decoding(nfe=4, beams=10, guidance=weight), progress)
    assert np.isfinite(several.scores).all() and (several.items >= 0).all()
