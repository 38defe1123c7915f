"""What an evaluation leaves on disk."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines import artifacts
from pipelines.data.splits import Split
from pipelines.errors import UserError
from pipelines.evaluate import report
from pipelines.evaluate.metrics import metrics_table
from pipelines.evaluate.recommend import Recommendations

FILES = ["metrics.parquet", "ranks.parquet", "recommendations.parquet"]


@pytest.fixture
def arguments(tmp_path: Path) -> dict[str, Any]:
    source = tmp_path / "source.json"
    source.write_text("{}")
    rng = np.random.default_rng(0)
    split = Split(
        np.zeros(20, np.int32),
        np.arange(21),
        np.arange(20, dtype=np.int32),
        rng.integers(0, 30, (20, 1)).astype(np.int32),
    )
    recommended = np.argsort(rng.random((20, 30)), axis=1)[:, :10].astype(np.int32)
    recommended[3] = -1
    recommended[4, 2] = -1
    scores = -np.sort(rng.random((20, 10)), axis=1).astype(np.float32)
    invalid = (recommended < 0).sum(axis=1)
    return {
        "split": split,
        "recommendations": Recommendations(recommended[:, :, None], scores, invalid, np.zeros(20, int)),
        "config": {"seed": 1, "beams": 10},
        "inputs": {"weights": source},
        "seconds": 2.5,
    }


def changed(arguments: dict[str, Any], **values: np.ndarray) -> dict[str, Any]:
    """The arguments with other recommendations."""
    return {**arguments, "recommendations": dataclasses.replace(arguments["recommendations"], **values)}


def test_three_files_that_agree(tmp_path: Path, arguments: dict[str, Any]) -> None:
    folder = report.write_evaluation(tmp_path / "eval" / "greedy", **arguments)
    assert sorted(p.name for p in folder.iterdir()) == FILES
    given = artifacts.read(folder / "recommendations.parquet", "recommendations").to_pylist()
    for row, items, scores in zip(
        given, arguments["recommendations"].items.squeeze(2), arguments["recommendations"].scores, strict=True
    ):
        assert row["items"] == [
            item if item >= 0 else None for item in items.tolist()
        ]  # what is no item keeps its place
        assert row["scores"] == scores.tolist()
    ranks = artifacts.read(folder / "ranks.parquet", "ranks")
    for rank, target, items in zip(
        ranks["rank"].to_pylist(),
        arguments["split"].first_target,
        arguments["recommendations"].items.squeeze(2),
        strict=True,
    ):
        assert (rank is None and target not in items) or items[rank - 1] == target
    assert report.read_metrics(folder).equals(metrics_table(ranks, list_length=10))


def test_metrics_follow_from_recommendations(tmp_path: Path, arguments: dict[str, Any]) -> None:
    """NDCG by hand, from each target's place in its list, in which beams that are no item keep theirs."""
    folder = report.write_evaluation(tmp_path / "eval" / "greedy", **arguments)
    lists = artifacts.read(folder / "recommendations.parquet", "recommendations")["items"].to_pylist()
    targets = artifacts.read(folder / "ranks.parquet", "ranks")["target"].to_pylist()
    gains = [
        1 / np.log2(items.index(t) + 2) if t in items else 0.0
        for items, t in zip(lists, targets, strict=True)
    ]
    found = {(row["metric"], row["k"]): row["value"] for row in report.read_metrics(folder).to_pylist()}
    assert found["ndcg", 10] == pytest.approx(np.mean(gains))
    assert found["ndcg", 10] > 0


def test_places_without_a_beam_are_left_out(tmp_path: Path, arguments: dict[str, Any]) -> None:
    recommendations = arguments["recommendations"]
    recommendations.items[5, 7:], recommendations.scores[5, 7:] = -1, -np.inf
    folder = report.write_evaluation(tmp_path / "eval" / "greedy", **arguments)
    row = artifacts.read(folder / "recommendations.parquet", "recommendations").to_pylist()[5]
    assert row["items"] == recommendations.items[5, :7, 0].tolist()
    assert len(row["scores"]) == 7


def test_provenance_survives_the_rename(
    tmp_path: Path, arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts.time, "monotonic", lambda: 100.0)
    folder = report.write_evaluation(tmp_path / "eval" / "greedy", **arguments)
    for name in FILES:
        assert artifacts.stale(folder / name) is None
        assert artifacts.stale(folder / name, arguments["config"], arguments["inputs"]) is None
        assert artifacts.provenance(folder / name)["seconds"] == 2.5
    assert "ranks" in artifacts.provenance(folder / "metrics.parquet")["inputs"]
    arguments["inputs"]["weights"].write_text("new")
    assert artifacts.stale(folder / "metrics.parquet") == "its weights changed"


def test_a_second_evaluation_replaces_the_first_whole(tmp_path: Path, arguments: dict[str, Any]) -> None:
    folder = tmp_path / "eval" / "greedy"
    report.write_evaluation(folder, **arguments)
    found = arguments["split"].targets[:, None]
    report.write_evaluation(folder, **changed(arguments, items=np.repeat(found, 10, axis=1)))
    assert report.read_metrics(folder)["value"][0].as_py() == 1.0
    assert [p.name for p in folder.parent.iterdir()] == ["greedy"]
    assert sorted(p.name for p in folder.iterdir()) == FILES


@pytest.mark.parametrize("failure", ["metrics", "rename", "interrupt"])
def test_a_failure_leaves_what_was_there(
    tmp_path: Path, arguments: dict[str, Any], failure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = report.write_evaluation(tmp_path / "eval" / "greedy", **arguments)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    error = KeyboardInterrupt if failure == "interrupt" else OSError

    def refuse(*_: object, **__: object) -> None:
        raise error("no space left")

    monkeypatch.setattr(*((Path, "rename") if failure == "rename" else (report, "metrics_table")), refuse)
    with pytest.raises(KeyboardInterrupt if failure == "interrupt" else UserError, match="no space left"):
        report.write_evaluation(folder, **changed(arguments, invalid=np.zeros(20, int)))
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert [p.name for p in folder.parent.iterdir()] == ["greedy"]


def test_nothing_appears_where_there_was_nothing(tmp_path: Path, arguments: dict[str, Any]) -> None:
    folder = tmp_path / "eval" / "greedy"
    with pytest.raises(UserError):
        report.write_evaluation(folder, **changed(arguments, invalid=np.full(20, 11)))
    assert list(folder.parent.iterdir()) == []
    with pytest.raises(UserError, match="Run `maskgr eval` first"):
        report.read_metrics(folder)
