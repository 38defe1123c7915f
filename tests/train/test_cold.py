"""Cold items: `--cold` leaves the interactions of items out of training, and eval measures them apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from maskgr_cli.metrics_table import by_warmth
from pipelines import artifacts
from pipelines.data.sequences import load_sequences
from pipelines.data.splits import histories, training
from pipelines.decode.config import Decoding
from pipelines.embed.build import build_embeddings
from pipelines.embed.config import EmbedConfig
from pipelines.errors import UserError
from pipelines.evaluate.config import EvalConfig
from pipelines.evaluate.run import evaluate_run
from pipelines.models.loading import load_run
from pipelines.models.registry import MODELS
from pipelines.tokenize.build import build_sids
from pipelines.tokenize.config import TokenizeConfig
from pipelines.train.derived import continued_plan, final_plan
from pipelines.train.run import train_run
from pipelines.workspace import Run, Workspace
from tests.conftest import ListProgress
from tests.train.conftest import grow_items, plan, write_rows
from tests.train.test_leakage import ITEMS, SCHEDULE, data, figures, plan_of, same_state, write_sequences

__all__ = ["data"]  # a fixture
COLD = {"cold": 0.3, "validations": 2}
BY_NUMBER = {"sasrec", "bsarec", "bert4rec", "maskgr-items", "dreamrec", "cadirec", "cooccurrence"}
PER_ITEM = ("embedding", "interactions")  # in names of tensors with an entry for each item
VARIANTS = [(model, {}) for model in MODELS] + [
    ("sasrec", {"loss": "gbce", "negatives": 8}),
    ("sasrec", {"loss": "bce"}),
    ("bert4rec", {"negatives": 8, "label_smoothing": 0.1}),
    ("maskgr", {"tokens": "item", "likelihood": "item", "item_embeddings": True, "label_smoothing": 0.1}),
    ("maskgr", {"tokens": "item", "likelihood": "item", "negatives": 8}),
    ("maskgr", {"dense": True, "centroids": True}),
]


def rows(workspace: Workspace) -> list[list[int]]:
    path = workspace.require_dataset().sequences
    return artifacts.read(path, "sequences")["items"].to_pylist()


def cold_items(workspace: Workspace) -> np.ndarray:
    sequences = load_sequences(workspace.require_dataset().sequences)
    warm = training(sequences, cold=COLD["cold"], seed=SCHEDULE["seed"]).items
    return np.setdiff1d(np.arange(ITEMS), warm)


def replace_cold(workspace: Workspace, sids: str | None) -> None:
    """Exchange the cold items among each other in the sequences, and give them other codes and texts."""
    cold, rng = cold_items(workspace), np.random.default_rng(3)
    other = np.arange(ITEMS)
    other[cold] = rng.permutation(cold)
    write_sequences(workspace, [other[row].tolist() for row in rows(workspace)])
    if sids is None:
        return
    path = workspace.require_dataset().sids(sids)
    provenance = artifacts.provenance(path)
    codes = artifacts.matrix(artifacts.read(path, "sids"), "sid", path).copy()
    codes[cold] = codes[np.roll(cold, 1)]
    inputs = {}
    if "embeddings" in provenance["inputs"]:
        inputs["embeddings"] = path.parent / provenance["inputs"]["embeddings"]["path"]
        table = artifacts.read(inputs["embeddings"], "embeddings")
        text = artifacts.matrix(table, "embedding", path).copy()
        text[cold] = rng.normal(size=(len(cold), text.shape[1]))
        write_rows(inputs["embeddings"], "embeddings", text, {})
    write_rows(path, "sids", codes, provenance["config"], inputs)


@pytest.mark.parametrize(
    ("model", "settings"), VARIANTS, ids=lambda value: value if isinstance(value, str) else "-".join(value)
)
def test_the_weights_depend_on_nothing_of_a_cold_item(
    data: Workspace, progress: ListProgress, model: str, settings: dict[str, Any]
) -> None:
    """Nor does what a cold item is compared with: it is no candidate of a loss."""
    plan = plan_of(data, model, settings, COLD)
    before = train_run(data, plan, progress, name="before")
    replace_cold(data, plan.sids)
    after = train_run(data, plan, progress, name="after")
    assert same_state(before, after)
    assert figures(after, "loss") == figures(before, "loss")
    known = ITEMS - len(cold_items(data))
    weights = load_file(after.weights).items()
    grown = {tensor.shape[0] for name, tensor in weights if any(part in name for part in PER_ITEM)}
    assert model not in BY_NUMBER or {known, known + 1} & grown


def test_a_warm_item_decides_the_weights(data: Workspace, progress: ListProgress) -> None:
    """The comparison can fail."""
    plan = plan_of(data, "sasrec", {}, COLD)
    before = train_run(data, plan, progress, name="before")
    warm = np.setdiff1d(np.arange(ITEMS), cold_items(data))
    other = np.arange(ITEMS)
    other[warm[:2]] = warm[[1, 0]]
    write_sequences(data, [other[row].tolist() for row in rows(data)])
    assert not same_state(before, train_run(data, plan, progress, name="after"))


@pytest.mark.parametrize("model", MODELS)
def test_cold_targets_are_measured_apart(data: Workspace, progress: ListProgress, model: str) -> None:
    """All items are candidates. A model over item numbers has no vector for a cold item and ranks it last."""
    run = train_run(data, plan_of(data, model, {}, COLD), progress, name="run")
    cold = cold_items(data)
    sequences = load_sequences(data.require_dataset().sequences)
    is_cold = np.isin(histories(sequences, "test").first_target, cold)
    loaded = load_run(data, run, torch.device("cpu"))
    np.testing.assert_array_equal(loaded.new_items, cold)
    beams = ITEMS - len(cold) if model in BY_NUMBER else 20
    unmask = "greedy" if model == "diffgrm" else None
    found = evaluate_run(data, run, EvalConfig(Decoding(beams=beams, unmask=unmask)), progress)
    metrics = {(row["metric"], row["k"]): row for row in found.metrics.to_pylist()}
    ranks = artifacts.read(found.folder / "ranks.parquet", "ranks").to_pylist()
    for k in (5, 20):
        for kind, mask in (("cold", is_cold), ("warm", ~is_cold)):
            row = metrics[f"{kind}_recall", k]
            hits = [r["rank"] is not None and r["rank"] <= k for r, of in zip(ranks, mask, strict=True) if of]
            assert row["users"] == len(hits) == mask.sum() > 0
            assert row["value"] == pytest.approx(np.mean(hits))
            assert row["low"] <= row["value"] <= row["high"]
            assert (f"{kind}_ndcg", k) in metrics
    listed = artifacts.read(found.folder / "recommendations.parquet", "recommendations")["items"].to_pylist()
    assert bool({item for items in listed for item in items} & set(cold.tolist())) == (model not in BY_NUMBER)
    popular = {(row["metric"], row["k"]): row["value"] for row in found.popularity.to_pylist()}
    assert popular["cold_recall", 20] == 0 < popular["warm_recall", 20]


def test_validation_keeps_cold_items(toy: Workspace, sids: str, progress: ListProgress) -> None:
    """In histories and as targets; its model has the weights of the step, over all items."""
    model = {"tokens": "item", "likelihood": "item", "attention": "prefix", "item_embeddings": True}
    run = train_run(toy, plan(sids, cold=0.2, steps=60, **model), progress, name="run")
    config = EvalConfig(Decoding(beams=10, nfe=1), split="validation", precision="fp32")
    found = evaluate_run(toy, run, config, progress)
    recall = next(r["value"] for r in found.metrics.to_pylist() if (r["metric"], r["k"]) == ("recall", 10))
    assert run.read_config()["best"]["recall@10"] == recall > 0.4  # by chance: 0.17
    assert "12 of 60 items are cold: no interaction of theirs is trained on." in progress.messages


@pytest.fixture
def run(toy: Workspace, sids: str, progress: ListProgress) -> Run:
    return train_run(toy, plan(sids, cold=0.2), progress, name="run")


def test_it_stands_alone(toy: Workspace, sids: str, run: Run, progress: ListProgress) -> None:
    for make in (lambda: final_plan(toy, run), lambda: continued_plan(run, {})):
        with pytest.raises(UserError, match=r"--cold 0\.2\)\. Train a run without --cold first"):
            make()
    with pytest.raises(UserError, match=r"--cold 0\.2 measures one target of a user; with --horizon 2"):
        plan(sids, cold=0.2, horizon=2)
    grow_items(toy, sids)
    new = load_run(toy, run, torch.device("cpu"), any_sequences=True).new_items
    assert len(new) == 17 and set(range(60, 65)) <= set(new.tolist())  # a fifth of sixty, and five
    assert "cold" not in plan(sids).to_dict()["train"] and plan(sids, cold=0.2).to_dict()["train"]["cold"]


def test_a_training_without_an_example_is_refused(data: Workspace, progress: ListProgress) -> None:
    write_sequences(data, [row[:3] for row in rows(data)])
    with pytest.raises(UserError, match="No user of toy has enough items to train --model tiger on"):
        train_run(data, plan_of(data, "tiger", {}, {}), progress, name="run")


def test_the_table_of_cold_and_warm_targets(toy: Workspace, run: Run, progress: ListProgress) -> None:
    found = evaluate_run(toy, run, EvalConfig(Decoding(beams=10)), progress)
    apart = by_warmth([({"run": "run"}, found.metrics), ({"run": "popularity"}, found.popularity)])
    assert [facts["run"] for facts, _ in apart] == [
        *("run, cold targets", "popularity, cold targets", "run, warm targets", "popularity, warm targets")
    ]
    assert sum(table["users"][0].as_py() for _, table in apart[::2]) == 200
    assert set(apart[0][1]["metric"].to_pylist()) == {"recall", "ndcg"}
    assert not by_warmth([({"run": "ordinary"}, found.metrics.slice(0, 3))])


@pytest.mark.parametrize("changes", [{"cold": 0.2}, {"horizon": 2}], ids=["cold", "horizon"])
def test_semantic_ids_that_have_seen_held_out_interactions_are_refused(
    toy: Workspace, progress: ListProgress, changes: dict[str, float]
) -> None:
    """Embeddings of interactions see all but the last two items of each user."""
    dataset = toy.require_dataset()
    build_embeddings(dataset, EmbedConfig(encoder="interactions"), progress)
    name = build_sids(dataset, TokenizeConfig(num_levels=2, codebook=8), progress).stem
    with pytest.raises(
        UserError, match=f"--{next(iter(changes))} holds out interactions that the semantic IDs"
    ):
        train_run(toy, plan(name, **changes), progress, name="run")
    train_run(toy, plan(name, steps=2, validations=1), progress, name="run")
