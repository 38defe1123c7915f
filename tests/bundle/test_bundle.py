"""A bundle recommends what its run recommends, holds no users, and is refused when a file of it changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

import maskgr
from pipelines import artifacts
from pipelines.bundle.build import export_run
from pipelines.bundle.config import BundleConfig
from pipelines.bundle.manifest import CARD, LAYOUT, MANIFEST
from pipelines.decode.config import Decoding
from pipelines.errors import UserError
from pipelines.evaluate.config import EvalConfig
from pipelines.evaluate.run import evaluate_run
from pipelines.models.registry import MODELS
from pipelines.recommend.histories import history_of
from pipelines.recommend.model import Model
from pipelines.train.derived import final_plan
from pipelines.train.run import train_run
from pipelines.workspace import Workspace
from tests.bundle.conftest import HISTORY, SOFTMAX, Bundled
from tests.conftest import ListProgress
from tests.train.test_leakage import ITEMS, plan_of

Loaded = Callable[..., Model]
pytestmark = pytest.mark.filterwarnings("ignore::pipelines.recommend.model.TruncatedHistory")


@pytest.mark.parametrize(
    ("name", "settings"), [*((name, {}) for name in MODELS), ("maskgr", SOFTMAX)], ids=lambda v: str(v)[:9]
)
def test_a_bundle_recommends_what_its_run_recommends(
    model: Loaded, bundled: Bundled, name: str, settings: dict[str, object]
) -> None:
    """To the last bit, for every model: known, long and empty histories, filters, similar items."""
    run, bundle = model(name, **settings), maskgr.load(bundled(name, **settings), device="cpu")
    histories = [HISTORY, [f"item-{i}" for i in range(12)], [], ["item-59"]]
    for asked in ({}, {"where": "price < 30", "k": 20}, {"exclude_seen": True, "deny": ["item-6"]}):
        assert bundle.recommend(histories, **asked).equals(run.recommend(histories, **asked))
    for by in ("model", *["sids"] * (run.trained.catalogue.sids is not None)):
        assert bundle.similar(HISTORY, by=by).equals(run.similar(HISTORY, by=by))
    assert bundle.items.equals(run.items)
    assert bundle.run.name == run.run.name


def test_texts_codebooks_and_explanations_come_along(model: Loaded, bundled: Bundled) -> None:
    run, bundle = model("liger"), maskgr.load(bundled("liger"), device="cpu")
    assert bundle.similar(HISTORY, by="text").equals(run.similar(HISTORY, by="text"))
    assert bundle.semantic_ids.equals(run.semantic_ids)
    decoding = Decoding(retrieval="dense")
    assert bundle.recommend([HISTORY], decoding=decoding).equals(run.recommend([HISTORY], decoding=decoding))
    answers = []
    for loaded in (run, bundle):
        history = history_of(["item-42"], loaded.table)
        query = loaded.query(Decoding(retrieval="generative"), 3)
        answers.append(loaded.answer(query, history, explain=True))
    assert answers[0].equals(answers[1])
    assert answers[0]["explanation"].list.len().min() == loaded.trained.model.digits


def test_a_bundle_holds_no_user_and_no_interaction(store: Workspace, bundled: Bundled) -> None:
    folder = bundled("maskgr")
    users = set(pl.read_parquet(store.require_dataset().sequences)["user_id"])
    counts = np.zeros(ITEMS, int)
    for path in folder.rglob("*.parquet"):
        table = pl.read_parquet(path)
        for column in table.select(pl.col(pl.String)).columns:
            assert not users & set(table[column]), path
        assert not {"user_id", "user", "timestamp"} & set(table.columns)
    for items in pl.read_parquet(store.require_dataset().sequences)["items"]:
        np.add.at(counts, items.to_list(), 1)
    assert pl.read_parquet(folder / "popularity.parquet")["interactions"].to_list() == counts.tolist()
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {name for name in names if "/" not in name} <= set(LAYOUT)
    model = maskgr.load(folder)
    for ask in (lambda: model.history("user-3"), lambda: model.users, lambda: model.sequences):
        with pytest.raises(UserError, match="is a bundle, which holds no users and no interactions"):
            ask()


def test_the_account_of_an_import_stays_behind(store: Workspace, model: Loaded, tmp_path: Path) -> None:
    """It quotes users and names the files of the import."""
    run, items = model("sasrec").run, store.require_dataset().items
    kept = items.read_bytes()
    secret = tmp_path / "secret.csv"
    secret.write_text("x")
    table = artifacts.read(items, "items")
    try:
        artifacts.write(
            *(items, "items", table),
            config={"where": "user = 'user-3'"},
            inputs={"interactions": secret},
            account={"users": ["user-3"]},
        )
        export_run(store, run, tmp_path / "bundle", BundleConfig(), ListProgress())
    finally:
        items.write_bytes(kept)
    metadata = str(pq.read_schema(tmp_path / "bundle" / "items.parquet").metadata)
    assert "user-3" not in metadata
    assert "secret" not in metadata
    assert "sha256" in metadata


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "items.parquet", "sids/toy-sids.parquet"]
)
def test_a_changed_or_missing_file_is_named(bundled: Bundled, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(bundled("maskgr"), folder)
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name} is not the file that was exported"):
        maskgr.load(folder)
    (folder / name).unlink()
    with pytest.raises(UserError, match=f"{name} is missing from the bundle"):
        maskgr.load(folder)


def test_a_bundle_of_another_format_is_refused_and_its_card_may_change(
    bundled: Bundled, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(bundled("sasrec"), folder)
    (folder / CARD).write_text("---\nlicense: mit\n---\n")
    (folder / ".gitattributes").write_text("")
    maskgr.load(folder)
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**manifest, "files": {"../x": "0"}}))
    with pytest.raises(UserError, match="does not lie in the bundle"):
        maskgr.load(folder)
    (folder / MANIFEST).write_text(json.dumps({**manifest, "format": 99}))
    with pytest.raises(UserError, match="has format 99; maskgr .* reads format 1 only"):
        maskgr.load(folder)
    (folder / MANIFEST).write_text("{")
    with pytest.raises(UserError, match=r"bundle.json cannot be read as JSON"):
        maskgr.load(folder)


def test_a_folder_is_replaced_as_a_whole_and_only_with_force(
    store: Workspace, model: Loaded, tmp_path: Path
) -> None:
    folder, progress = tmp_path / "bundle", ListProgress()
    export_run(store, model("maskgr").run, folder, BundleConfig(), progress)
    with pytest.raises(UserError, match="holds a bundle. Replace it with --force"):
        export_run(store, model("sasrec").run, folder, BundleConfig(), progress)
    export_run(store, model("sasrec").run, folder, BundleConfig(), progress, force=True)
    assert maskgr.load(folder).run.name == "sasrec"
    assert not (folder / "sids").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    other = tmp_path / "mine"
    other.mkdir()
    (other / "diary.txt").write_text("x")
    with pytest.raises(UserError, match="exists and is no bundle"):
        export_run(store, model("sasrec").run, other, BundleConfig(), progress, force=True)
    assert (other / "diary.txt").read_text() == "x"


def test_an_export_that_fails_leaves_the_old_bundle(
    store: Workspace, model: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "bundle"
    export_run(store, model("sasrec").run, folder, BundleConfig(), ListProgress())
    monkeypatch.setattr("pipelines.bundle.build.write_manifest", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export_run(store, model("maskgr").run, folder, BundleConfig(), ListProgress(), force=True)
    assert maskgr.load(folder).run.name == "sasrec"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_run_of_the_workspace_goes_before_a_folder_of_its_name(
    store: Workspace, model: Loaded, bundled: Bundled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model("sasrec")
    shutil.copytree(bundled("maskgr"), tmp_path / "sasrec")
    monkeypatch.chdir(tmp_path)
    assert maskgr.load("sasrec", workspace=store.root).run.path == store.run("sasrec").path
    assert maskgr.load("./sasrec", workspace=store.root).run.name == "maskgr"
    assert maskgr.load("sasrec", workspace=tmp_path / "nowhere").run.name == "maskgr"


@pytest.mark.parametrize(
    ("name", "settings"), [("sasrec", {}), ("maskgr", {**SOFTMAX, "dense": True}), ("liger", {})]
)
def test_items_that_training_did_not_know_rank_as_in_the_run(
    store: Workspace, tmp_path: Path, name: str, settings: dict[str, object]
) -> None:
    schedule = {"steps": 2, "validations": 1, "batch_size": 50, "cold": 0.2}
    train_run(store, plan_of(store, name, settings, schedule), ListProgress(), name=f"{name}-cold")
    export_run(store, store.run(f"{name}-cold"), tmp_path / "cold", BundleConfig(), ListProgress())
    run, bundle = maskgr.load(f"{name}-cold", workspace=store.root), maskgr.load(tmp_path / "cold")
    assert len(bundle.trained.new_items) == len(run.trained.new_items) > 0
    assert bundle.recommend([HISTORY], k=ITEMS).equals(run.recommend([HISTORY], k=ITEMS))


def test_a_final_run_is_exported_with_the_metrics_of_the_validated_run(
    store: Workspace, model: Loaded, tmp_path: Path
) -> None:
    run = model("rpg").run
    train_run(store, final_plan(store, run), ListProgress(), name="rpg-final")
    final = store.run("rpg-final")
    export_run(store, final, tmp_path / "without", BundleConfig(), ListProgress())
    assert "rpg has not been evaluated." in (tmp_path / "without" / CARD).read_text()
    evaluate_run(store, run, EvalConfig(), ListProgress())
    export_run(store, final, tmp_path / "final", BundleConfig(), ListProgress())
    card = (tmp_path / "final" / CARD).read_text()
    rows = pl.read_parquet(run.evaluations[0] / "metrics.parquet").filter(metric="recall", k=10).to_dicts()
    (row,) = rows
    shown = f"{100 * row['value']:.2f} | {100 * row['low']:.2f} to {100 * row['high']:.2f} | {row['users']}"
    assert f"| Recall@10 | {shown} |" in card
    assert "They are those of rpg, whose training left out the measured items" in card
    assert "maskgr train --final rpg" in card
    bundle = maskgr.load(tmp_path / "final")
    assert bundle.run.is_final
    assert bundle.recommend([HISTORY]).equals(maskgr.load(final.path).recommend([HISTORY]))
