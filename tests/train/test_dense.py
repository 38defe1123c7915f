"""Training with dense retrieval from artifacts to artifacts: it learns, and knows which embeddings it was
trained on.
"""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from pipelines import artifacts
from pipelines.decode.config import Decoding
from pipelines.errors import UserError
from pipelines.evaluate.config import EvalConfig
from pipelines.evaluate.run import evaluate_run
from pipelines.tokenize.build import build_sids
from pipelines.tokenize.config import TokenizeConfig
from pipelines.train.run import train_run
from pipelines.workspace import Workspace
from tests.conftest import ListProgress
from tests.train.conftest import plan


def write_text(toy: Workspace, seed: int = 0) -> None:
    """Text embeddings that tell items apart; the last item has none."""
    vectors = np.random.default_rng(seed).normal(size=(60, 16)).astype(np.float32)
    vectors[59] = 0
    dataset = toy.require_dataset()
    table = pa.table(
        {"item": pa.array(range(60), pa.int32()), "embedding": artifacts.fixed_size_list(vectors)}
    )
    artifacts.write(
        dataset.embeddings("toy"), "embeddings", table, config={}, inputs={"items": dataset.items}
    )


def write_sids(toy: Workspace, name: str, digits: np.ndarray, embeddings: bool = True) -> None:
    dataset = toy.require_dataset()
    table = pa.table({"item": pa.array(range(60), pa.int32()), "sid": artifacts.fixed_size_list(digits)})
    inputs = {"embeddings": dataset.embeddings("toy")} if embeddings else {}
    artifacts.write(dataset.sids(name), "sids", table, config={"codebook": 16}, inputs=inputs)


@pytest.fixture
def sids(toy: Workspace, progress: ListProgress) -> str:
    write_text(toy)
    return build_sids(toy.require_dataset(), TokenizeConfig(num_levels=2, codebook=16), progress).stem


@pytest.mark.parametrize("attention", ["full", "prefix"])
def test_it_learns_a_known_pattern(toy: Workspace, sids: str, progress: ListProgress, attention: str) -> None:
    """Item i is followed by item i + 1: dense retrieval puts it first."""
    model_settings = {
        "layers": 2,
        "width": 64,
        "mlp": 128,
        "dropout": 0.0,
        "attention": attention,
        "dense": True,
    }
    run = train_run(
        toy,
        plan(
            sids,
            steps=300,
            learning_rate=0.005,
            batch_size=64,
            next_item=0.5 * (attention == "full"),
            **model_settings,
        ),
        progress,
    )
    for retrieval in ("dense", "unified"):
        found = evaluate_run(
            toy, run, EvalConfig(Decoding(beams=10, retrieval=retrieval), precision="fp32"), progress
        )
        values = {(r["metric"], r["k"]): r["value"] for r in found.metrics.to_pylist()}
        assert values["recall", 5] > 0.8, retrieval
        assert f"{retrieval} retrieval" in found.description
    assert (
        "text embeddings predicted by layer 1"
        in evaluate_run(toy, run, EvalConfig(Decoding(beams=10, retrieval="dense")), progress).description
    )


def test_other_embeddings_are_noticed(toy: Workspace, sids: str, progress: ListProgress) -> None:
    asked = plan(sids, steps=2, validations=1, dense=True)
    run, dataset = train_run(toy, asked, progress, name="run"), toy.require_dataset()
    recorded = json.loads(run.config.read_text())["inputs"]
    assert recorded["embeddings"]["sha256"] == artifacts.digest(dataset.embeddings("toy"))
    evaluated = artifacts.provenance(
        evaluate_run(toy, run, EvalConfig(Decoding(retrieval="dense")), progress).folder / "ranks.parquet"
    )
    assert set(evaluated["inputs"]) == {"sequences", "sids", "embeddings", "weights"}
    write_text(toy, seed=1)
    for act in (
        lambda: train_run(toy, asked, progress, name="run"),
        lambda: evaluate_run(toy, run, EvalConfig(Decoding()), progress),
    ):
        with pytest.raises(
            UserError,
            match=r"made from other embeddings than .*toy.parquet now holds. Run `maskgr tokenize --force`",
        ):
            act()
    digits = artifacts.matrix(artifacts.read(dataset.sids(sids), "sids"), "sid", dataset.sids(sids))
    write_sids(toy, sids, digits)  # the same, said to be made from the new embeddings
    for act in (
        lambda: train_run(toy, asked, progress, name="run"),
        lambda: evaluate_run(toy, run, EvalConfig(Decoding()), progress),
    ):
        with pytest.raises(UserError, match="trained on other embeddings"):
            act()


def test_what_cannot_be_is_refused(toy: Workspace, sids: str, progress: ListProgress) -> None:
    dataset = toy.require_dataset()
    write_sids(
        toy,
        "bare",
        artifacts.matrix(artifacts.read(dataset.sids(sids), "sids"), "sid", dataset.sids(sids)),
        embeddings=False,
    )
    with pytest.raises(UserError, match="bare.parquet names none that it was made from"):
        train_run(toy, plan("bare", dense=True), progress)
    with pytest.raises(UserError, match="--horizon 2 does not go with --dense"):
        plan(sids, dense=True, horizon=2)
    with pytest.raises(UserError, match="--whole-item is 1.5"):
        plan(sids, whole_item=1.5)
    run = train_run(toy, plan("bare", steps=2, validations=1), progress)
    for retrieval in ("dense", "unified"):
        with pytest.raises(UserError, match=f"--retrieval {retrieval} needs a run .* maskgr train --dense"):
            evaluate_run(toy, run, EvalConfig(Decoding(retrieval=retrieval)), progress)


def test_texts_to_start_from_are_for_training_alone(
    toy: Workspace, sids: str, progress: ListProgress
) -> None:
    """With --centroids a run is trained on embeddings, says so, and is evaluated without them."""
    run = train_run(toy, plan(sids, steps=2, tokens="item", centroids=True), progress)
    assert "embeddings" in artifacts.read_json(run.config)["inputs"]
    toy.require_dataset().embeddings("toy").unlink()
    assert evaluate_run(toy, run, EvalConfig(Decoding(beams=10), precision="fp32"), progress).metrics.num_rows
    with pytest.raises(UserError, match="was made from other embeddings than"):
        train_run(toy, plan(sids, steps=3, tokens="item", centroids=True), progress)
