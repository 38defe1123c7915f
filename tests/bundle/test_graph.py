"""ONNX graphs: the lists and scores of the model, for histories of every length, in onnxruntime alone."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from pipelines.bundle.build import export_run
from pipelines.bundle.config import BundleConfig
from pipelines.bundle.graph import Ranking, check_exportable, compare, export, item_scores
from pipelines.bundle.manifest import GRAPH, IDS, PROGRAM, read_manifest
from pipelines.errors import UserError
from pipelines.models.built import rank_new_items
from pipelines.models.committee import committee_of
from pipelines.models.loading import TrainedRun
from pipelines.models.nn.packing import padding_kept
from pipelines.models.sid_models import maskgr
from pipelines.recommend.model import Model
from pipelines.workspace import Workspace
from tests.bundle.conftest import HISTORY, SOFTMAX
from tests.conftest import PATIENCE, ROOT, ListProgress
from tests.models.test_every_model import CATALOGUE, SIDS, TINY, N, build

Loaded = Callable[..., Model]
FULL = {
    **SOFTMAX,
    "repeat_bias": True,
    "dense": True,
    "next_item": 0.0,
}  # every part that an item softmax can have
VARIANTS = [
    ("maskgr", FULL),
    ("maskgr", {**SOFTMAX, "attention": "full"}),
    ("maskgr", {"tokens": "digit"}),
    ("maskgr", {"tokens": "digit", "attention": "prefix", "dense": True, "next_item": 0.0}),
    *((name, {}) for name in ("sasrec", "bsarec", "cadirec", "bert4rec", "maskgr-items", "rpg", "diffgrm")),
]
GRAPHS = [("maskgr", FULL), ("maskgr", {"tokens": "digit"})]  # the program below has a graph of sasrec
WINDOW = TINY["max_items"]
K = 10


def words(value: object) -> str:
    return "-".join(map(str, value)) if isinstance(value, dict) else str(value)


def trained(name: str, settings: dict[str, object]) -> TrainedRun:
    """Return a model with random weights that was not trained on the last items; where it has a repeat bias,
    one that is not zero.
    """
    model = build(name, **settings)
    with torch.no_grad():
        if (scale := getattr(model, "repeat_bias", None)) is not None:
            scale.fill_(-0.7)
    model.eval()
    new_items = np.arange(N - 5, N)
    rank_new_items(model, new_items, CATALOGUE, None)
    return TrainedRun(model, CATALOGUE, None, {}, {}, new_items)  # type: ignore[arg-type]


def histories(rows: int, length: int, seed: int = 0) -> np.ndarray:
    """Return histories with repeated items, of which all but the first begin with padding: [rows, length]."""
    rng = np.random.default_rng(seed)
    items = rng.integers(0, N, (rows, length))
    items[:, -1] = items[:, 0]
    for row in range(1, rows):
        items[row, : rng.integers(0, length)] = -1
    return items


@pytest.mark.parametrize("item_embeddings", [True, False])
def test_a_graph_of_a_large_catalogue_ranks_as_its_model(
    item_embeddings: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the model keeps no table of its output vectors, the graph adds up products of digits."""
    monkeypatch.setattr(maskgr, "TABLE", 0)
    settings = {**FULL, "dense": False, "item_embeddings": item_embeddings}
    ranking = Ranking(trained("maskgr", settings), np.arange(N), K).eval()
    export(ranking, tmp_path / GRAPH)
    compare(ranking, tmp_path / GRAPH)


def test_a_graph_of_a_committee_ranks_as_its_model(tmp_path: Path) -> None:
    """Its members see other numbers of items of a history, and two of them score item numbers."""
    members = [build("maskgr", **FULL), build("sasrec", 1, max_items=WINDOW - 2), build("bsarec", 2)]
    run = TrainedRun(committee_of(members, [2.0, 1.0, 1.0]).eval(), CATALOGUE, None, {}, {}, np.arange(0))  # type: ignore[arg-type]
    ranking = Ranking(run, np.arange(N), K).eval()
    export(ranking, tmp_path / GRAPH)
    compare(ranking, tmp_path / GRAPH)


@pytest.mark.parametrize(("name", "settings"), VARIANTS, ids=words)
def test_kept_padding_changes_no_score(name: str, settings: dict[str, object]) -> None:
    run = trained(name, settings)
    items, sids = torch.as_tensor(histories(9, WINDOW)), torch.as_tensor(SIDS)
    with torch.inference_mode():
        expected = item_scores(run.model, items, sids)
        alone = torch.cat([item_scores(run.model, row[row >= 0][None], sids) for row in items])
        with padding_kept():
            kept = item_scores(run.model, items, sids)
    scale = float(expected.abs().max())
    assert float((kept - expected).abs().max()) < 1e-5 * max(1, scale)
    assert float((kept - alone).abs().max()) < 1e-5 * max(1, scale)
    assert float(expected.std()) > 1e-3 * scale  # there is something to compare


@pytest.mark.parametrize(("name", "settings"), GRAPHS, ids=words)
def test_a_graph_ranks_as_its_model(name: str, settings: dict[str, object], tmp_path: Path) -> None:
    """One and many histories, of one item and of more items than the model sees; an empty one gets the most
    popular items. A graph of other weights is noticed.
    """
    run, counts = trained(name, settings), np.random.default_rng(3).permutation(N)
    ranking = Ranking(run, counts, K).eval()
    export(ranking, tmp_path / GRAPH)
    session = onnxruntime.InferenceSession(tmp_path / GRAPH, providers=["CPUExecutionProvider"])
    for rows in (1, 2, 64):
        for length in (1, 2, WINDOW, WINDOW + 5):
            items = histories(rows, length, seed=rows + length)
            with torch.inference_mode():
                seen = torch.as_tensor(items[:, -WINDOW:])
                scores = item_scores(run.model, seen, torch.as_tensor(SIDS)).numpy()
            found, values = session.run(None, {"items": items})
            assert found.shape == values.shape == (rows, K)
            order = np.argsort(-scores, axis=1, kind="stable")
            best = np.take_along_axis(scores, order, 1)
            np.testing.assert_allclose(values, best[:, :K], atol=1e-5, rtol=1e-5)
            clear = np.diff(best[:, : K + 1], axis=1).max(1) < -1e-4  # no two scores that rounding could swap
            np.testing.assert_array_equal(found[clear], order[clear, :K])
            assert clear.mean() > 0.5 or rows < 64
    found, values = session.run(None, {"items": np.array([[-1, -1], [-1, 3]])})
    assert found[0].tolist() == np.argsort(-counts, kind="stable")[:K].tolist()
    assert values[0].tolist() == sorted(counts, reverse=True)[:K]
    assert values[1].tolist() != values[0].tolist()
    difference, seconds = compare(ranking, tmp_path / GRAPH)
    assert difference < 1e-5
    assert min(seconds) > 0
    with torch.no_grad():
        run.model.encoder.norm.weight.mul_(1.01)  # type: ignore[union-attr, operator]
    run.model.eval()
    with pytest.raises(RuntimeError, match=r"model.onnx and the model differ by"):
        compare(ranking, tmp_path / GRAPH)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("dreamrec", "removes noise in many"),
        ("tiger", "decodes one digit after another"),
        ("liger", "decodes one digit after another"),
        ("cooccurrence", "adds up any number of pairs"),
    ],
)
def test_models_of_many_evaluations_are_refused(name: str, reason: str) -> None:
    with pytest.raises(UserError, match=f"--model {name} {reason}. Leave --onnx out."):
        check_exportable(trained(name, {}))


def test_lists_of_several_items_and_missing_packages_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    run = trained("maskgr", {})
    with pytest.raises(UserError, match="this run predicts 2 items together"):
        check_exportable(dataclasses.replace(run, training={"horizon": 2}))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"pip install 'maskgr\[onnx\]'"):
        check_exportable(run)


WITHOUT = """
import runpy, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "pyarrow", "polars", "maskgr", "pipelines", "onnx", "safetensors"}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_the_program_of_a_bundle_needs_numpy_and_onnxruntime_alone(
    store: Workspace, model: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It prints what the model recommends in float32; the document shows the same program."""
    monkeypatch.setattr("pipelines.recommend.model.autocast", lambda *_: nullcontext())
    loaded, progress, folder = model("sasrec"), ListProgress(), tmp_path / "bundle"
    export_run(store, loaded.run, folder, BundleConfig(onnx=True, onnx_items=12), progress)
    assert any("scores of 64 random histories differ from the model's" in line for line in progress.messages)
    assert {GRAPH, IDS, PROGRAM} <= read_manifest(folder)["files"].keys()
    assert json.loads((folder / IDS).read_text()) == loaded.items["item_id"].to_list()
    for history in (HISTORY, ["nothing"]):
        command = [sys.executable, "-c", WITHOUT, str(folder / PROGRAM), *history]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        rows = [line.split("\t") for line in done.stdout.splitlines()]
        known = [name for name in history if name != "nothing"]
        expected = loaded.recommend([known], k=10)
        assert [int(row[0]) for row in rows] == [*range(1, 11)]
        assert [row[1] for row in rows] == expected["item_id"].to_list()
        np.testing.assert_allclose([float(row[2]) for row in rows], expected["score"], atol=1e-3)
    program = (folder / PROGRAM).read_text()
    assert len(program.splitlines()) <= 20
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "export.md").read_text(), re.DOTALL)
    assert program in blocks
