"""The variants of training and decoding, from artifacts to artifacts."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable

import pytest

from pipelines import artifacts
from pipelines.decode.config import Decoding
from pipelines.errors import UserError
from pipelines.evaluate.config import EvalConfig
from pipelines.evaluate.diagnose import diagnose_run
from pipelines.evaluate.run import Evaluation, evaluate_run
from pipelines.train.run import train_run
from pipelines.workspace import Workspace
from tests.conftest import ListProgress
from tests.train.conftest import plan

LEARNS = {
    "steps": 400,
    "layers": 2,
    "width": 64,
    "mlp": 128,
    "dropout": 0.0,
    "learning_rate": 0.005,
    "batch_size": 64,
}


def recall(found: Evaluation) -> float:
    return next(
        row["value"] for row in found.metrics.to_pylist() if (row["metric"], row["k"]) == ("recall", 10)
    )


def test_prefix_attention_learns_and_is_decoded_through_its_cache(
    toy: Workspace, sids: str, progress: ListProgress
) -> None:
    run = train_run(toy, plan(sids, attention="prefix", **LEARNS), progress)
    found = evaluate_run(toy, run, EvalConfig(Decoding(beams=10)), progress)
    assert recall(found) > 0.8  # item i is followed by item i + 1; by chance 10 of 60
    assert "toy · prefix attention · 3 digits of 8 codes" in found.description
    assert any(
        re.search(r"Index of [\d,]+ partial SIDs: [\d.]+ MiB, built in [\d.]+ s\.", said)
        for said in progress.messages
    )
    with pytest.raises(
        UserError,
        match="--approximate has no effect on this run of --model maskgr, which encodes histories",
    ):
        evaluate_run(toy, run, EvalConfig(Decoding(approximate=True)), progress)


def test_joint_digits_learn_in_any_order_and_number_of_evaluations(
    toy: Workspace, sids: str, progress: ListProgress
) -> None:
    ours = {
        "tokens": "item",
        "likelihood": "item",
        "item_embeddings": True,
        "attention": "prefix",
        "history_dropout": 0.1,
        "whole_item": 0.5,
    }
    run = train_run(toy, plan(sids, **ours, **{**LEARNS, "steps": 200}), progress)
    for changes in ({}, {"nfe": 1}, {"nfe": 2}, {"unmask": "random"}, {"guidance": 0.2}, {"remask": 1}):
        found = evaluate_run(toy, run, EvalConfig(Decoding(beams=10, **changes)), progress)
        assert recall(found) > 0.8
        assert (
            "toy · prefix attention · item tokens · item softmax · item embeddings · history dropout 0.1 · "
            "whole item 0.5 · 3 digits of 8" in found.description
        )
        evaluations = {0.2: 1, "random": 1}.get(next(iter(changes.values()), 1), changes.get("nfe", 1))
        assert f", {evaluations + changes.get('remask', 0)} function evaluation" in found.description
    with pytest.raises(UserError, match="--no-constrained has no effect on this run of --model maskgr"):
        evaluate_run(toy, run, EvalConfig(Decoding(constrained=False)), progress)
    with pytest.raises(UserError, match="a run with --likelihood item has one distribution over them"):
        diagnose_run(toy, run, EvalConfig(Decoding()), progress)


def test_joint_digits_of_several_items_ahead(toy: Workspace, sids: str, progress: ListProgress) -> None:
    run = train_run(
        toy,
        plan(sids, horizon=2, next_item=0.8, tokens="item", likelihood="item", **{**LEARNS, "steps": 250}),
        progress,
    )
    for T in (1, 6):
        assert recall(evaluate_run(toy, run, EvalConfig(Decoding(nfe=T, beams=10)), progress)) > 0.6


def test_several_items_ahead(toy: Workspace, sids: str, progress: ListProgress) -> None:
    run = train_run(toy, plan(sids, horizon=2, next_item=0.8, **LEARNS), progress)
    sequences = artifacts.read(toy.require_dataset().sequences, "sequences")["items"].to_pylist()
    for T in (2, 6):
        found = evaluate_run(toy, run, EvalConfig(Decoding(nfe=T, beams=10), horizon=2), progress)
        assert found.folder.name == f"horizon2-greedy-t{T}-k10-constrained"
        assert (
            f"2 items ahead, average session recall · next item 0.8 · 3 digits of 8 codes · greedy, {T} "
            "function evaluations" in found.description
        )
        ranks = artifacts.read(found.folder / "ranks.parquet", "ranks").to_pylist()
        assert [r["target"] for r in ranks] == [item for row in sequences for item in row[-2:]]
        hits = 0
        for row in artifacts.read(found.folder / "recommendations.parquet", "recommendations").to_pylist():
            pairs = list(zip(row["items"][::2], row["items"][1::2], strict=True))
            assert len(pairs) == len(row["scores"]) == len(set(pairs)) == 10
            hits += sum(
                target in [pair[place] for pair in pairs]
                for place, target in enumerate(sequences[row["user"]][-2:])
            )
        assert recall(found) == pytest.approx(hits / 2 / 200)
    assert recall(found) > 0.6
    for decoding, horizon, message in (
        (
            Decoding(),
            3,
            "--horizon 3: the run was trained with --horizon 2. Train one with: maskgr train --horizon 3",
        ),
        (Decoding(nfe=7), None, "--nfe 7 is more than the 6 digits"),
        (Decoding(remask=1), None, "--remask works on one item, not on the 2 of this run"),
        (
            Decoding(unmask="confidence"),
            None,
            "--unmask confidence works on one item, not on the 2 of this run",
        ),
    ):
        with pytest.raises(UserError, match=message):
            evaluate_run(toy, run, EvalConfig(decoding, horizon=horizon), progress)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"horizon": 2, "attention": "prefix"}, "--horizon 2 needs --attention full"),
        ({"horizon": 2, "dense": True}, "--horizon 2 does not go with --dense"),
        ({"next_item": 0.5, "attention": "prefix"}, "--next-item 0.5 needs --attention full"),
        ({"attention": "causal"}, "--attention 'causal' is unknown; choose full, prefix"),
        ({"dense_layer": 1}, "--dense-layer 1 needs --dense"),
        ({"horizon": 0}, "--horizon is 0"),
        ({"history_dropout": 2.0}, "--history-dropout is 2"),
    ],
)
def test_plans_that_contradict_themselves_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        plan("any", **changes)


def test_users_with_too_few_items_are_refused(toy: Workspace, sids: str, progress: ListProgress) -> None:
    with pytest.raises(UserError, match="--horizon 4 needs 9 items of every user, and 200 users have fewer"):
        train_run(toy, plan(sids, horizon=4), progress)


def test_guidance_remasking_and_the_approximate_cache(
    toy: Workspace, sids: str, progress: ListProgress
) -> None:
    run = train_run(toy, plan(sids), progress, name="plain")
    with pytest.raises(UserError, match="--guidance needs a run that was trained without histories too"):
        evaluate_run(toy, run, EvalConfig(Decoding(guidance=1.0)), progress)
    with pytest.raises(UserError, match="--retrieval unified needs a run that predicts text embeddings"):
        evaluate_run(toy, run, EvalConfig(Decoding(retrieval="unified")), progress)
    run = train_run(toy, plan(sids, history_dropout=0.2), progress, name="forgetful")
    tables = {}
    for decoding, name, said in (
        (Decoding(beams=10), "greedy-k10-constrained", "greedy, 3 function evaluations (1+1+1 digits)"),
        (Decoding(beams=10, guidance=0.5), "greedy-k10-constrained-w0.5", "guidance 0.5"),
        (
            Decoding(beams=10, remask=2, nfe=2),
            "greedy-t2-k10-constrained-m2",
            "4 function evaluations (1+2 digits, then 2 remasked)",
        ),
        (
            Decoding(beams=10, unmask_counts="2,1"),
            "greedy-r2-1-k10-constrained",
            "2 function evaluations (2+1 digits)",
        ),
        (
            Decoding(beams=10, unmask="confidence"),
            "confidence-k10-constrained",
            "confidence, 3 function evaluations (1+1+1 digits)",
        ),
        (
            Decoding(beams=10, approximate=True),
            "greedy-k10-constrained-approximate",
            "histories encoded once (approximate)",
        ),
    ):
        found = evaluate_run(toy, run, EvalConfig(decoding), progress)
        assert found.folder.name == name
        assert said in found.description
        kept = artifacts.read(found.folder / "recommendations.parquet", "recommendations").to_pylist()
        assert all(len(set(row["items"])) == len(row["items"]) == 10 for row in kept)  # valid, none twice
        tables[name] = str([row["scores"] for row in kept])
    assert len(set(tables.values())) == len(tables)  # each does something


def test_two_items_ahead_on_the_command_line(
    toy: Workspace, maskgr: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    trained = maskgr(
        "train",
        "--preset",
        "smoke",
        "--sids",
        2,
        "--codebook",
        16,
        "--steps",
        5,
        "--horizon",
        2,
        "--history-dropout",
        0.1,
    )
    assert trained.returncode == 0, trained.stderr
    measured = maskgr("eval", "--horizon", 2, "--nfe", 4, "--beams", 10, "--guidance", 0.5)
    assert measured.returncode == 0, measured.stderr
    title = " ".join(measured.stdout.split())  # however the terminal breaks it
    assert "2 items ahead, average session recall" in title
    assert "4 function evaluations (1+1+2+2 digits), 10 beams, constrained, guidance 0.5" in title
