"""Recommendations of trained runs: those of an evaluation, within filters, with a stated fallback."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

import maskgr
from pipelines import artifacts
from pipelines.data.sequences import Sequences, load_sequences
from pipelines.decode.config import Decoding
from pipelines.errors import UserError
from pipelines.evaluate.config import EvalConfig
from pipelines.evaluate.run import evaluate_run
from pipelines.models.registry import MODELS
from pipelines.recommend.histories import Histories
from pipelines.recommend.items import UnknownItems
from pipelines.recommend.model import Model, TruncatedHistory
from pipelines.train.derived import final_plan
from pipelines.train.run import train_run
from pipelines.workspace import Workspace
from tests.conftest import ListProgress
from tests.train.test_leakage import ITEMS

Loaded = Callable[..., Model]
HISTORY = ["item-3", "item-4", "item-5"]
SOFTMAX = {"tokens": "item", "likelihood": "item", "attention": "prefix", "item_embeddings": True}


def numbers(frame: pl.DataFrame) -> list[int]:
    """Return the numbers of recommended items, whose identifiers are "item-0", "item-1", …"""
    return [int(name.removeprefix("item-")) for name in frame["item_id"]]


@pytest.mark.parametrize("exclude_seen", [False, True], ids=["", "unseen"])
@pytest.mark.parametrize(
    ("name", "settings"), [*((name, {}) for name in MODELS), ("maskgr", SOFTMAX)], ids=lambda v: str(v)[:9]
)
def test_the_list_is_that_of_an_evaluation(
    store: Workspace, model: Loaded, name: str, settings: dict[str, object], exclude_seen: bool
) -> None:
    """Users of the test split: histories without the last item."""
    loaded = model(name, **settings)
    decoding = Decoding(exclude_seen=exclude_seen)
    result = evaluate_run(store, loaded.run, EvalConfig(decoding, precision="auto"), ListProgress())
    stored = artifacts.read(result.folder / "recommendations.parquet", "recommendations").to_pylist()
    sequences = load_sequences(store.require_dataset().sequences)
    histories = [
        [f"item-{i}" for i in sequences.items[start : end - 1]]
        for start, end in zip(sequences.offsets, sequences.offsets[1:], strict=False)
    ]
    with pytest.warns(TruncatedHistory):
        frame = loaded.recommend(histories, k=10, exclude_seen=exclude_seen)
    assert set(frame["source"]) == {"model"}
    for row, part in zip(stored, frame.partition_by("history", maintain_order=True), strict=True):
        assert numbers(part) == row["items"][:10]
        np.testing.assert_array_equal(part["score"], np.float32(row["scores"][:10]))
        assert part["rank"].to_list() == list(range(1, 11))


def test_a_frame_has_typed_columns(model: Loaded) -> None:
    frame = model("sasrec").recommend([HISTORY], k=3)
    assert frame.schema == {
        "history": pl.Int64,
        "rank": pl.Int32,
        "item_id": pl.String,
        "title": pl.String,
        "score": pl.Float32,
        "source": pl.String,
    }
    assert frame["title"].to_list() == [f"Thing {i}" for i in numbers(frame)]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("\"group\" = 'group 2'", set(range(20, 30))),
        ("price < 10 and tags = 'odd'", {1, 3, 5, 9}),
        ("price is null", set(range(0, ITEMS, 7))),
        ("title like 'Thing 5%' or item_id = 'item-1'", {5, 1, *range(50, 60)}),
    ],
)
@pytest.mark.parametrize("name", ["maskgr", "tiger", "sasrec", "diffgrm"])
def test_a_condition_holds_for_all_recommendations(
    model: Loaded, name: str, where: str, expected: set[int]
) -> None:
    frame = model(name).recommend([HISTORY], k=ITEMS, where=where)
    assert set(numbers(frame)) == expected
    assert len(frame) == len(expected)


def test_lists_of_items_restrict_the_recommendations(model: Loaded) -> None:
    loaded = model("maskgr")
    allow = [f"item-{i}" for i in range(8)]
    with pytest.warns(UnknownItems, match="allow: 1 of 9 ids are no items of toy"):
        frame = loaded.recommend([HISTORY], allow=[*allow, "nothing"], deny=["item-2"], exclude_seen=True)
    assert sorted(numbers(frame)) == [0, 1, 6, 7]
    with pytest.raises(UserError, match="No item of toy qualifies for --where and --deny"):
        loaded.recommend([HISTORY], where="item_id = 'item-2'", deny=["item-2"])


@pytest.mark.parametrize("name", ["maskgr", "sasrec"])
def test_an_empty_history_gets_the_most_popular_items_that_qualify(model: Loaded, name: str) -> None:
    loaded = model(name)
    with pytest.warns(UnknownItems, match="history 1: 2 of 2 ids are no items of toy .* x, y"):
        frame = loaded.recommend([[], ["x", "y"], HISTORY], k=4, where="price >= 30")
    counts = np.bincount(loaded.sequences.items, minlength=ITEMS)
    best = sorted((i for i in range(30, ITEMS) if i % 7), key=lambda i: (-counts[i], i))[:4]
    for place in (0, 1):
        part = frame.filter(history=place)
        assert numbers(part) == best
        assert part["score"].to_list() == counts[best].tolist()
        assert set(part["source"]) == {"popularity"}
    assert set(frame.filter(history=2)["source"]) == {"model"}
    assert loaded.recommend([]).is_empty()


@pytest.mark.parametrize("length", [1, 500])
def test_histories_of_any_length_are_taken(model: Loaded, length: int) -> None:
    history = [f"item-{i % ITEMS}" for i in range(length)]
    loaded = model("maskgr")
    if length > 4:
        with pytest.warns(TruncatedHistory, match="sees the last 4 items of a history; 1 of 1 are longer"):
            frame = loaded.recommend([history])
    else:
        frame = loaded.recommend([history])
    assert len(frame) == 10


def test_several_items_ahead_have_positions(store: Workspace, model: Loaded) -> None:
    from tests.train.test_leakage import plan_of

    plan = plan_of(store, "maskgr", {}, {"steps": 2, "validations": 1, "batch_size": 50, "horizon": 2})
    train_run(store, plan, ListProgress(), name="two-ahead")
    frame = maskgr.load(store.run("two-ahead").path).recommend([HISTORY], k=3, where="price < 20")
    assert frame["rank"].to_list() == [1, 1, 2, 2, 3, 3]
    assert frame["position"].to_list() == [1, 2] * 3
    assert set(numbers(frame)) <= {i for i in range(20) if i % 7}
    with pytest.raises(UserError, match="--diversity has no effect on lists of 2 items in a row"):
        maskgr.load(store.run("two-ahead").path).recommend([HISTORY], diversity=0.5)


def test_a_final_run_is_taken_where_there_is_one(store: Workspace, model: Loaded) -> None:
    run = model("rpg").run
    progress = ListProgress()
    train_run(store, final_plan(store, run), progress, name="rpg-final")
    loaded = maskgr.load("rpg", workspace=store.root, progress=progress)
    assert loaded.run.name == "rpg-final"
    assert progress.messages[-1] == "Run: rpg-final, the final run of rpg."
    assert maskgr.load(store.run("rpg-final").path).run.name == "rpg-final"
    with pytest.raises(UserError, match="saw the items"):
        evaluate_run(store, loaded.run, EvalConfig(), progress)


def test_a_history_of_the_data_set_is_found_by_its_user(model: Loaded) -> None:
    loaded = model("sasrec")
    first = loaded.sequences.items[: loaded.sequences.offsets[1]]
    assert loaded.history("user-0") == [f"item-{i}" for i in first]
    with pytest.raises(UserError, match="No user 'nobody' in .*sequences.parquet"):
        loaded.history("nobody")


def test_items_and_semantic_ids_are_frames(model: Loaded) -> None:
    loaded = model("maskgr")
    assert loaded.items.columns == ["item_id", "text", "title", "group", "price", "tags"]
    sids = loaded.semantic_ids
    assert sids["sid"].to_list() == loaded.trained.catalogue.require_sids().tolist()
    assert sids["item_id"].to_list() == loaded.items["item_id"].to_list()
    with pytest.raises(UserError, match="no semantic IDs"):
        _ = model("sasrec").semantic_ids


@pytest.mark.parametrize("name", MODELS)
def test_similar_items_by_the_vectors_of_every_model(model: Loaded, name: str) -> None:
    loaded = model(name)
    vectors = loaded.trained.model.history_vectors().detach().numpy()
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = np.argsort(-(vectors @ vectors[7]), kind="stable")
    expected = expected[expected != 7][:5]
    frame = loaded.similar(["item-7"], k=5)
    assert frame["similar_id"].to_list() == [f"item-{i}" for i in expected]
    np.testing.assert_allclose(frame["score"], vectors[expected] @ vectors[7], rtol=1e-4)


def test_similar_items_by_semantic_ids_and_texts(model: Loaded) -> None:
    loaded = model("liger")
    sids = loaded.trained.catalogue.require_sids()
    frame = loaded.similar(["item-7", "item-0"], k=3, by="sids")
    assert frame["item_id"].to_list() == ["item-7"] * 3 + ["item-0"] * 3
    for row in frame.iter_rows(named=True):
        a, b = (int(row[name].removeprefix("item-")) for name in ("item_id", "similar_id"))
        assert row["score"] == (sids[a] == sids[b]).sum()
    text = loaded.trained.catalogue.require_text()
    unit = text / np.maximum(np.linalg.norm(text, axis=1, keepdims=True), 1e-12)
    scores = unit @ unit[3]
    scores[3] = -np.inf
    assert loaded.similar(["item-3"], k=2, by="text")["similar_id"][0] == f"item-{scores.argmax()}"
    with pytest.raises(UserError, match="--by sids needs a run over semantic IDs"):
        model("sasrec").similar(["item-0"], by="sids")
    with pytest.raises(UserError, match="--by"):
        loaded.similar(["item-0"], by="taste")


@pytest.mark.parametrize(
    "decoding",
    [
        Decoding(),
        Decoding(unmask="left-to-right"),
        Decoding(unmask="random", seed=3),
        Decoding(nfe=2),
        Decoding(nfe=1),
    ],
    ids=lambda decoding: decoding.name,
)
@pytest.mark.parametrize("name", ["maskgr", "tiger"])
def test_an_explanation_follows_the_path_of_the_search(model: Loaded, name: str, decoding: Decoding) -> None:
    """The probabilities of an item's digits multiply to its score."""
    if name == "tiger":
        decoding = Decoding()
    loaded = model(name)
    query = loaded.query(decoding, 4)
    items = Sequences(np.array([3, 4, 5], np.int32), np.array([0, 3]))
    frame = loaded.answer(query, Histories(pl.Series("history", [0]), items), explain=True)
    H = loaded.trained.model.digits
    for row in frame.iter_rows(named=True):
        steps = row["explanation"]
        assert sorted(step["digit"] for step in steps) == list(range(1, H + 1))
        counts = np.bincount([step["evaluation"] for step in steps])[1:]
        assert counts.tolist() == list(query.decoding.unmask_schedule(H))
        sid = loaded.trained.catalogue.require_sids()[int(row["item_id"].removeprefix("item-"))]
        assert all(step["code"] == sid[step["digit"] - 1] for step in steps)
        assert np.log([step["probability"] for step in steps]).sum() == pytest.approx(row["score"], abs=1e-3)
    assert loaded.answer(query, Histories(pl.Series("history", [0]), items)).equals(frame.drop("explanation"))


def test_an_explanation_names_shared_items_and_words(model: Loaded) -> None:
    from pipelines.recommend.explain import Explainer

    loaded = model("maskgr")
    sids = loaded.trained.catalogue.require_sids()
    explainer = Explainer(loaded)
    table = explainer.explain(np.array([3, 4, 5, 4]), np.array([7]), loaded.query(Decoding(), 1).decoding)
    for row in table.iter_rows(named=True):
        same = [i for i in (3, 4, 5) if sids[i, row["digit"] - 1] == row["code"]]
        assert row["shared"] == [f"item-{i}" for i in same]
    digit, code = 0, int(sids[7, 0])
    typical = {f"{i}" for i in np.flatnonzero(sids[:, 0] == code)}
    assert set(explainer.words(digit, code)) <= typical
    with pytest.raises(UserError, match="--explain needs a model that reveals digits"):
        Explainer(model("sasrec"))


def test_the_package_is_light_until_a_model_is_loaded() -> None:
    code = "import maskgr, sys; print(sorted({'torch', 'polars', 'pyarrow', 'numpy'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = maskgr.nothing


def test_a_wrong_path_is_named(store: Workspace, tmp_path) -> None:
    with pytest.raises(UserError, match="is not the folder of a run"):
        maskgr.load(tmp_path / "runs" / "x")
    with pytest.raises(UserError, match="No run 'x'"):
        maskgr.load("x", workspace=store.root)
