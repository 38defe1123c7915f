"""Committees as runs: made of trained runs, evaluated, grown, taught from, and refused."""

from __future__ import annotations

import dataclasses
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines import artifacts
from pipelines.data.sequences import load_sequences
from pipelines.decode.config import Decoding
from pipelines.errors import UserError
from pipelines.evaluate.capabilities import refuse_final
from pipelines.evaluate.config import EvalConfig
from pipelines.evaluate.run import evaluate_run
from pipelines.inventory import overview
from pipelines.models.committee import committee_of
from pipelines.models.distribution import distribution_after
from pipelines.models.item_models.config import SASRecConfig
from pipelines.models.loading import load_run
from pipelines.models.sid_models.config import TIGERConfig
from pipelines.recommend.load import load
from pipelines.serve.messages import Ask
from pipelines.serve.served import Served
from pipelines.train.committee import given_weights, make_committee
from pipelines.train.committee_weights import choose_weights, grid
from pipelines.train.configure import configure
from pipelines.train.derived import continued_plan, final_plan
from pipelines.train.existing import find_unfinished
from pipelines.train.plan import Plan
from pipelines.train.run import train_run
from pipelines.workspace import Run, Workspace
from tests.conftest import ListProgress, write_toy
from tests.train.conftest import SCHEDULE, grow_items, plan, write_rows, write_sids

TINY = {"layers": 1, "width": 16, "heads": 2, "mlp": 16, "max_items": 5}
PREFIX = {"attention": "prefix", "tokens": "item", "likelihood": "item", "item_embeddings": True}
SHORT = dataclasses.replace(SCHEDULE, steps=2, validations=1, validation_users=20)
CPU = torch.device("cpu")
EVAL = EvalConfig(Decoding(beams=20))


def train(store: Workspace, name: str, sids: str | None, **changes: object) -> Run:
    """Train a tiny run: `maskgr`, or `sasrec` without semantic IDs."""
    if sids:
        wanted = plan(sids, **{**TINY, **PREFIX, **vars(SHORT), **changes})
    else:
        schedule = dataclasses.replace(SHORT, **changes)
        wanted = Plan("toy", None, "sasrec", "test", SASRecConfig(**{**TINY, "max_items": 3}), schedule)
    return train_run(store, wanted, ListProgress(), name=name)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Runs a0, a1 (seeds), b0 (other semantic IDs), s0 (SASRec) and c0 (co-occurrence)."""
    store = write_toy(Workspace(tmp_path_factory.mktemp("committee") / "workspace"))
    write_sids(store), write_sids(store, "other-sids", digits=4, codes=5)
    train(store, "a0", "toy-sids")
    train(store, "a1", "toy-sids", seed=1)
    train(store, "b0", "other-sids", seed=2, max_items=4)
    train(store, "s0", None, seed=3)
    counted = configure("cooccurrence", "smoke", {"max_items": 4, "validation_users": 20})
    train_run(store, Plan("toy", None, "cooccurrence", "smoke", *counted), ListProgress(), name="c0")
    return store


@pytest.fixture
def store(trained: Workspace, tmp_path: Path) -> Workspace:
    """The workspace of `trained`, in the place of the test's own."""
    shutil.copytree(trained.root, tmp_path / "workspace")
    return Workspace(tmp_path / "workspace")


def probabilities(store: Workspace, run: str, history: list[int]) -> np.ndarray:
    model = load_run(store, store.run(run), CPU).model
    seen = torch.tensor([history[-model.config.max_items :]])
    with torch.no_grad():
        return distribution_after(model, seen, torch.arange(1)).log_probs()[0].double().exp().numpy()


def test_a_committee_of_runs_of_all_kinds_is_their_geometric_mean(
    store: Workspace, progress: ListProgress
) -> None:
    names, weights = ["s0", "a0", "c0", "b0"], [0.4, 0.3, 0.1, 0.2]
    run = make_committee(store, "com", names, "4,3,1,2", progress)
    history = [3, 4, 5, 6, 7]
    product = np.prod(
        [probabilities(store, name, history) ** weight for name, weight in zip(names, weights, strict=True)],
        axis=0,
    )
    np.testing.assert_allclose(
        probabilities(store, "com", history), product / product.sum(), rtol=1e-3, atol=1e-8
    )
    config = run.read_config()
    assert [member["run"] for member in config["members"]] == names
    assert [member["weight"] for member in config["members"]] == weights
    assert (config["state"], config["sids"], config["weighting"]) == ("finished", "toy-sids", "given")
    loaded = load_run(store, run, CPU)
    dataset = store.dataset("toy")
    assert {dataset.sids("toy-sids"), dataset.sids("other-sids")} <= {*loaded.inputs.values()}
    assert loaded.catalogue.codes == 8


def test_it_is_evaluated_with_any_number_of_evaluations_and_without_its_members(
    store: Workspace, progress: ListProgress
) -> None:
    run = make_committee(store, "com", ["a0", "b0"], "equal", progress)
    before = artifacts.digest(run.weights)
    for name in ("a0", "b0"):
        (store.run(name).config).unlink()
    one = evaluate_run(store, run, EVAL, progress)
    three = evaluate_run(store, run, EvalConfig(Decoding(beams=20, nfe=3)), progress)
    assert one.metrics.to_pylist() == three.metrics.to_pylist()
    assert "geometric mean of 2 runs" in one.description
    assert artifacts.digest(run.weights) == before


def test_a_committee_of_item_models_has_no_digits(store: Workspace, progress: ListProgress) -> None:
    train(store, "s1", None, seed=4)
    run = make_committee(store, "com", ["s0", "s1"], "equal", progress)
    assert evaluate_run(store, run, EVAL, progress).metrics.num_rows
    with pytest.raises(UserError, match="--nfe has no effect on this committee"):
        evaluate_run(store, run, EvalConfig(Decoding(beams=20, nfe=3)), progress)


def test_new_items_are_scored_as_by_the_members(store: Workspace, progress: ListProgress) -> None:
    names = ["a0", "b0"]
    make_committee(store, "com", names, "equal", progress)
    make_committee(store, "mixed", ["a0", "s0"], "equal", progress)
    make_committee(store, "near", ["a0", "c0"], "equal", progress)
    dataset = store.dataset("toy")
    grow_items(store, "toy-sids")
    sids = artifacts.matrix(artifacts.read(dataset.sids("other-sids"), "sids"), "sid", Path())
    write_more(store, "other-sids", sids)
    history = [3, 4, 62]
    for committee, members in (("com", names), ("near", ["a0", "c0"])):
        product = np.prod([probabilities(store, name, history) ** 0.5 for name in members], axis=0)
        found = probabilities(store, committee, history)
        assert len(found) == 65
        np.testing.assert_allclose(found, product / product.sum(), rtol=1e-3, atol=1e-8)
    assert not probabilities(store, "mixed", [3, 4])[60:].any()  # s0 has no vectors for them


def write_more(store: Workspace, name: str, sids: np.ndarray) -> None:
    taken = {tuple(row) for row in sids.tolist()}
    free = [row for row in np.ndindex(5, 5, 5, 5) if row not in taken][:5]
    dataset = store.dataset("toy")
    write_rows(
        dataset.sids(name),
        "sids",
        np.concatenate((sids, np.array(free, sids.dtype))),
        {"codebook": 5},
        {"items": dataset.items},
    )


def test_equal_weights_stay_where_others_are_no_better(store: Workspace, progress: ListProgress) -> None:
    """Runs of two steps know next to nothing, so that no weights are better by more than their interval."""
    run = make_committee(store, "com", ["a0", "a1"], "validation", progress)
    config = run.read_config()
    assert [member["weight"] for member in config["members"]] == [0.5, 0.5]
    assert config["weighting"].startswith("equal")


def test_a_member_that_knows_the_rule_gets_the_weight(store: Workspace, progress: ListProgress) -> None:
    """Item i + 1 follows item i. The one member has learned it, the other has not."""
    train(store, "knows", "toy-sids", steps=150, validation_users=20, max_items=5)
    run = make_committee(store, "com", ["a0", "knows"], "validation", progress)
    config = run.read_config()
    weights = [member["weight"] for member in config["members"]]
    assert weights[1] > 0.5 and sum(weights) == pytest.approx(1)
    assert config["weighting"].startswith("validation: NDCG@10")


def test_the_grid_has_equal_weights_and_all_multiples_of_a_fraction() -> None:
    tenths = [(n / 10, (10 - n) / 10) for n in range(11)]
    assert grid(2)[0] == (0.5, 0.5) and sorted(grid(2)) == tenths
    for members in (3, 4, 7):
        found = np.array(grid(members))
        assert np.allclose(found[0], 1 / members) and np.allclose(found.sum(1), 1)
        assert len(found) == len({*map(tuple, found)}) <= 61
        corners = {tuple(row) for row in np.eye(members)}
        assert corners <= {*map(tuple, found)}


def test_the_choice_is_that_of_a_literal_computation(store: Workspace, progress: ListProgress) -> None:
    """The users of even numbers choose by NDCG@10; the others must gain more than their interval."""
    train(store, "knows", "toy-sids", steps=60, validation_users=20, max_items=5)
    loaded = [load_run(store, store.run(name), CPU) for name in ("knows", "b0")]
    users = loaded[0].split(load_sequences(store.dataset("toy").sequences, 60), "validation")
    logp = []
    with torch.no_grad():
        for each in loaded:
            window = each.model.config.max_items
            history = torch.as_tensor(users.padded(np.arange(len(users)), window)).long()
            logp.append(distribution_after(each.model, history, torch.arange(len(users))).log_probs().numpy())

    def ndcg(weights: tuple[float, ...]) -> np.ndarray:
        mixed = weights[0] * logp[0] + weights[1] * logp[1]
        gains = []
        for row, target in enumerate(users.targets[:, 0]):
            rank = 1 + np.argsort(-mixed[row], kind="stable").tolist().index(target)
            gains.append(1 / np.log2(rank + 1) if rank <= 10 else 0.0)
        return np.array(gains)

    means = {weights: ndcg(weights)[::2].mean() for weights in grid(2)}
    committee = committee_of([each.model for each in loaded], [1.0, 1.0]).eval()
    choice = choose_weights(committee, users, progress)
    assert choice.reason.startswith("validation: NDCG@10")
    assert means[choice.weights] == pytest.approx(max(means.values()), abs=1e-3)
    one, other = (100 * ndcg(weights)[1::2].mean() for weights in ((0.5, 0.5), choice.weights))
    said = re.search(r"(\d+\.\d+) in place of (\d+\.\d+)", choice.reason)
    assert said and [float(text) for text in said.groups()] == pytest.approx([other, one], abs=0.1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("best", "neither equal nor validation nor numbers"),
        ("1,2,3", "has 3 numbers for 2 members"),
        ("0.5,-1", "at least 0"),
        ("0,0", "one is above 0"),
        ("nan,1", "at least 0"),
    ],
)
def test_weights_that_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        given_weights(text, 2)


def test_runs_that_cannot_be_members(store: Workspace, progress: ListProgress) -> None:
    train(store, "cold", "toy-sids", cold=0.2)
    train(store, "cold1", "toy-sids", cold=0.2, seed=1)
    tiger = Plan("toy", "toy-sids", "tiger", "test", TIGERConfig(**TINY), SHORT)
    train_run(store, tiger, progress, name="tiger")
    train(store, "two", "toy-sids", horizon=2, attention="full")
    train_run(store, final_plan(store, store.run("a0")), progress, name="final")
    make_committee(store, "inner", ["a0", "a1"], "equal", progress)
    for names, message in (
        (["a0"], "two members or more"),
        (["a0", "a0"], "a member once"),
        (["a0", "none"], "No run 'none'"),
        (["a0", "inner"], "inner is a committee. Name its members in its place: a0 a1"),
        (["a0", "tiger"], "tiger: --model tiger decides one digit after another"),
        (["two", "a0"], "two: it was trained with --horizon 2"),
        (["a0", "cold"], "cold: its training left other items out .* than a0"),
        (["cold", "cold1"], r"--seed 1\) than cold"),
        (["a0", "final"], "final is a final run, and a0 is none"),
        (["final", "a0"], "a0 is no final run, and final is one"),
    ):
        with pytest.raises(UserError, match=message):
            make_committee(store, "com", names, "equal", progress)
        assert not store.run("com").path.exists()
    config = store.run("a1").read_config()
    artifacts.write_json(store.run("a1").config, {**config, "dataset": "other"})
    with pytest.raises(UserError, match="a1: it was trained on the data set other, not on toy"):
        make_committee(store, "com", ["a0", "a1"], "equal", progress)
    artifacts.write_json(store.run("a1").config, {**config, "state": "interrupted"})
    with pytest.raises(UserError, match="a1 is not finished"):
        make_committee(store, "com", ["a0", "a1"], "equal", progress)


def test_a_committee_of_cold_runs_measures_the_same_cold_items(
    store: Workspace, progress: ListProgress
) -> None:
    train(store, "cold", "toy-sids", cold=0.2)
    train(store, "cold-other", "other-sids", cold=0.2)
    run = make_committee(store, "com", ["cold", "cold-other"], "equal", progress)
    metrics = {row["metric"] for row in evaluate_run(store, run, EVAL, progress).metrics.to_pylist()}
    assert {"cold_recall", "warm_recall"} <= metrics
    cold = load_run(store, store.run("cold"), CPU).new_items
    assert len(cold) and np.array_equal(load_run(store, run, CPU).new_items, cold)


def test_a_name_that_is_taken(store: Workspace, progress: ListProgress) -> None:
    with pytest.raises(UserError, match="holds a trained run"):
        make_committee(store, "b0", ["a0", "a1"], "equal", progress, force=True)
    run = make_committee(store, "com", ["a0", "a1"], "equal", progress)
    with pytest.raises(UserError, match="holds a committee. Replace it with --force"):
        make_committee(store, "com", ["a0", "b0"], "equal", progress)
    make_committee(store, "com", ["a0", "b0"], "equal", progress, force=True)
    assert [member["run"] for member in run.read_config()["members"]] == ["a0", "b0"]


def test_a_committee_of_final_runs_is_not_measured(store: Workspace, progress: ListProgress) -> None:
    for name in ("a0", "b0"):
        train_run(store, final_plan(store, store.run(name)), progress, name=f"{name}-final")
    run = make_committee(store, "com", ["a0-final", "b0-final"], "equal", progress)
    assert run.is_final
    with pytest.raises(UserError, match="maskgr ensemble NAME a0 b0"):
        refuse_final(run)
    with pytest.raises(UserError, match="--weights validation: a0-final is a final run"):
        make_committee(store, "more", ["a0-final", "b0-final"], "validation", progress)


def test_a_committee_is_not_trained(store: Workspace, progress: ListProgress) -> None:
    run = make_committee(store, "com", ["a0", "b0"], "equal", progress)
    for derive in (
        lambda: final_plan(store, run),
        lambda: continued_plan(run, {}),
        lambda: find_unfinished(store, "com"),
    ):
        with pytest.raises(UserError, match=r"A committee is not trained, its members are \(a0, b0\)"):
            derive()


def test_a_student_of_a_committee_learns_what_one_of_its_members_learns(
    store: Workspace, progress: ListProgress
) -> None:
    """The soft targets of a committee with equal weights are those of its members as teachers."""
    make_committee(store, "com", ["a0", "s0"], "equal", progress)
    for name, teachers in (("of-committee", "com"), ("of-members", "a0,s0")):
        train(store, name, "toy-sids", distill=teachers, teacher_items=60)
    one, other = (artifacts.read(path, "targets") for path in store.dataset("toy").all_targets)
    for column in one.column_names:
        values = [np.array(table[column].to_pylist(), np.float64) for table in (one, other)]
        np.testing.assert_allclose(*values, rtol=1e-2, atol=1e-4)


def test_it_is_served_with_explanations_and_similar_items(store: Workspace, progress: ListProgress) -> None:
    for names, digits in ((["s0", "b0"], 4), (["s0", "s1"], None)):
        if "s1" in names:
            train(store, "s1", None, seed=4)
        make_committee(store, "com", names, "equal", progress, force=True)
        served = Served(load("com", workspace=store.root, device="cpu"))
        assert (served.facts["model"], served.facts["digits"]) == ("committee", digits)
        ask = Ask(history=["item-3", "item-4"], k=5, explain=digits is not None)
        [answer] = served.answer([served.prepare(ask)])
        assert len(answer["recommendations"]) == 5
        if digits:
            assert len(answer["recommendations"][0]["explanation"]) == digits
        assert len(served.similar("item-3", 4, "model")["items"]) == 4


def test_inputs_that_changed_are_named(store: Workspace, progress: ListProgress) -> None:
    run = make_committee(store, "com", ["a0", "b0"], "equal", progress)
    path = store.dataset("toy").sids("other-sids")
    sids = artifacts.matrix(artifacts.read(path, "sids"), "sid", path)
    write_rows(path, "sids", sids[::-1].copy(), {"codebook": 5}, {"items": store.dataset("toy").items})
    with pytest.raises(UserError, match="maskgr ensemble --force"):
        load_run(store, run, CPU)
    stale = {view.name: view.stale for view in overview(store).runs}
    assert (stale["a0"], stale["b0"], stale["com"]) == (None, "its sids changed", "its sids changed")
