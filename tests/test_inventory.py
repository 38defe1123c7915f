"""What `maskgr show` tells of a workspace, and how it prints it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipelines import artifacts
from pipelines.inventory import EmbeddingsView, SidsView, overview
from pipelines.workspace import FORMAT_VERSION, Dataset, Run, Workspace

ITEMS = 60


def write_embeddings(dataset: Dataset, seed: int = 0) -> None:
    vectors = np.random.default_rng(seed).normal(size=(ITEMS, 4)).astype(np.float16)
    table = pa.table(
        {"item": pa.array(range(ITEMS), pa.int32()), "embedding": artifacts.fixed_size_list(vectors)}
    )
    artifacts.write(
        dataset.embeddings("lsa"), "embeddings", table, config={}, inputs={"items": dataset.items}
    )


def write_sids(dataset: Dataset) -> None:
    digits = np.stack([np.arange(ITEMS) // 10, np.arange(ITEMS) % 10, np.zeros(ITEMS)], axis=1).astype(
        np.int16
    )
    table = pa.table({"item": pa.array(range(ITEMS), pa.int32()), "sid": artifacts.fixed_size_list(digits)})
    inputs = {"embeddings": dataset.embeddings("lsa"), "items": dataset.items}
    artifacts.write(dataset.sids("lsa-2x10"), "sids", table, config={"codebook": 10}, inputs=inputs)
    quality = pa.table(
        {"level": pa.array([-1, 0], pa.int32()), "measure": ["collisions", "entropy"], "value": [12.0, 2.5]}
    )
    artifacts.write(
        dataset.quality("lsa-2x10"), "quality", quality, config={}, inputs={"sids": dataset.sids("lsa-2x10")}
    )


def write_run(workspace: Workspace, name: str = "first", **changes: Any) -> Run:
    run, dataset = workspace.run(name), workspace.dataset("toy")
    sources = {"sequences": dataset.sequences, "sids": dataset.sids("lsa-2x10")}
    config = {
        "format": FORMAT_VERSION,
        "created": "2026-01-01T00:00:00Z",
        "dataset": "toy",
        "sids": "lsa-2x10",
        "model": "maskgr",
        "preset": "smoke",
        "train": {"steps": 7, "minutes": None},
        "state": "finished",
        "best": {"step": 5, "recall@10": 0.0625},
        "inputs": {
            name: {"path": str(path), "sha256": artifacts.digest(path)} for name, path in sources.items()
        },
    }
    artifacts.write_json(run.config, {**config, **changes})
    return run


def write_metrics(run: Run, dataset: Dataset, name: str = "greedy-t3") -> None:
    rows = [
        ("recall", 10, 0.0512, 0.04, 0.06),
        ("ndcg", 10, 0.0301, 0.02, 0.04),
        ("invalid_rate", None, 0.25, 0.2, 0.3),
    ]
    metric, k, value, low, high = zip(*rows, strict=True)
    table = pa.table(
        {
            "metric": metric,
            "k": pa.array(k, pa.int32()),
            "value": value,
            "low": low,
            "high": high,
            "users": [200] * 3,
        }
    )
    inputs = {"sequences": dataset.sequences, "sids": dataset.sids("lsa-2x10")}
    artifacts.write(run.evaluation(name) / "metrics.parquet", "metrics", table, config={}, inputs=inputs)


@pytest.fixture
def full(toy: Workspace) -> Workspace:
    """A workspace with one of everything, all up to date."""
    dataset = toy.dataset("toy")
    write_embeddings(dataset)
    write_sids(dataset)
    write_metrics(write_run(toy), dataset)
    return toy


def reasons(workspace: Workspace) -> list[str | None]:
    """Why each is stale: data set, embeddings, SIDs, run, evaluation."""
    view = overview(workspace)
    dataset, run = view.datasets[0], view.runs[0]
    return [
        dataset.stale,
        dataset.embeddings[0].stale,
        dataset.sids[0].stale,
        run.stale,
        run.evaluations[0].stale,
    ]


def test_everything_is_listed(full: Workspace) -> None:
    view = overview(full)
    (dataset,) = view.datasets
    assert (dataset.name, dataset.current, dataset.users, dataset.items, dataset.interactions) == (
        "toy",
        True,
        200,
        60,
        1600,
    )
    assert dataset.embeddings == [EmbeddingsView("lsa", 60, 4, "float16", None)]
    assert dataset.sids == [SidsView("lsa-2x10", 60, 2, 3, 10, 12, None)]
    (run,) = view.runs
    assert (run.name, run.config["state"], run.best) == ("first", "finished", 0.0625)
    (evaluation,) = run.evaluations
    assert (evaluation.name, evaluation.users) == ("greedy-t3", 200)
    assert evaluation.metrics == {("recall", 10): 0.0512, ("ndcg", 10): 0.0301, ("invalid_rate", None): 0.25}
    assert reasons(full) == [None] * 5


def test_stale_goes_downstream(full: Workspace) -> None:
    dataset = full.dataset("toy")
    items = artifacts.read(dataset.items, "items")
    changed = items.set_column(2, "text", pa.array(["new"] * ITEMS))
    artifacts.write(dataset.items, "items", changed, config={})
    assert reasons(full) == [
        "its items changed",
        "its items changed",
        "its embeddings changed",
        "its sequences changed",
        "its sequences changed",
    ]
    artifacts.write(
        dataset.items, "items", items, config={"other": "configuration"}
    )  # the same content again
    assert reasons(full) == [None] * 5
    write_embeddings(dataset, seed=1)
    assert reasons(full) == [None, None, "its embeddings changed", "its sids changed", "its sids changed"]
    write_sids(dataset)  # of equal content: what was made of them still holds
    assert reasons(full) == [None] * 5
    dataset.embeddings("lsa").unlink()
    view = overview(full)
    assert view.datasets[0].sids[0].stale == "its embeddings cannot be found"
    assert view.runs[0].stale == "its sids changed"


def test_sources_outside_may_go_but_not_change(toy: Workspace, tmp_path: Path) -> None:
    dataset = toy.dataset("toy")
    items = artifacts.read(dataset.items, "items")
    source = tmp_path / "own.csv"
    source.write_text("a,b\n")
    artifacts.write(dataset.items, "items", items, config={}, inputs={"catalogue": source})
    assert overview(toy).datasets[0].stale is None
    source.write_text("a,c\n")
    assert overview(toy).datasets[0].stale == "its catalogue changed"
    source.unlink()
    assert overview(toy).datasets[0].stale is None


def test_what_cannot_be_read_is_listed_as_such(full: Workspace) -> None:
    dataset, run = full.dataset("toy"), full.run("first")
    for path in (
        dataset.items,
        dataset.sequences,
        dataset.embeddings("lsa"),
        dataset.sids("lsa-2x10"),
        dataset.quality("lsa-2x10"),
    ):
        path.write_bytes(path.read_bytes()[:-20])
    (run.evaluation("greedy-t3") / "metrics.parquet").write_bytes(b"")
    run.config.write_text("{")
    view = overview(full)
    assert (view.datasets[0].users, view.datasets[0].items, view.datasets[0].interactions) == (
        None,
        None,
        None,
    )
    assert view.datasets[0].embeddings == [
        EmbeddingsView("lsa", None, None, None, "lsa.parquet is not readable")
    ]
    assert view.datasets[0].sids == [
        SidsView("lsa-2x10", None, None, None, None, None, "lsa-2x10.parquet is not readable")
    ]
    assert (view.runs[0].config, view.runs[0].stale) == ({}, "config.json is not readable")
    assert view.runs[0].evaluations[0].stale == "metrics.parquet is not readable"
    full.run("first").config.write_text("[1]")
    assert overview(full).runs[0].stale == "config.json is not readable"


@pytest.mark.parametrize(
    "config",
    [{}, {"best": None}, {"dataset": "gone", "sids": "gone"}, {"dataset": "toy", "sids": "lsa-2x10"}],
)
def test_keys_of_a_run_may_be_missing(full: Workspace, config: dict[str, Any]) -> None:
    artifacts.write_json(full.run("first").config, {"format": FORMAT_VERSION, **config})
    (run,) = overview(full).runs
    assert (run.best, run.stale) == (None, None)


@pytest.mark.parametrize(("version", "found"), [({}, "no format"), ({"format": 1}, "format 1")])
def test_a_run_of_another_format_is_listed_as_such(
    full: Workspace, version: dict[str, int], found: str
) -> None:
    config = artifacts.read_json(full.run("first").config)
    del config["format"]
    artifacts.write_json(full.run("first").config, {**config, **version})
    (run,) = overview(full).runs
    assert (run.config, run.stale) == ({}, f"config.json has {found}: train it again")
    assert run.evaluations[0].metrics[("recall", 10)] == 0.0512


Command = Callable[..., CompletedProcess[str]]


def test_show_prints_the_workspace(full: Workspace, maskgr: Command) -> None:
    write_run(full, "second", state="interrupted", best=None)
    shown = maskgr("show")
    assert shown.returncode == 0, shown.stderr

    def cells(first: str) -> list[list[str]]:
        rows = [
            [cell.strip() for cell in line.strip("│").split("│")]
            for line in shown.stdout.splitlines()
            if line.startswith("│")
        ]
        return [row for row in rows if row[0] == first]

    assert cells("toy (current)") == [["toy (current)", "200", "60", "1,600", "leave-one-out"]]
    assert cells("lsa") == [["lsa", "toy", "60", "4", "float16"]]
    assert cells("lsa-2x10") == [["lsa-2x10", "toy", "2", "10", "3", "12 (20.0%)"]]
    assert cells("first") == [
        ["first", "maskgr", "smoke", "toy", "lsa-2x10", "finished", "6.25"],
        ["first", "greedy-t3", "200", "5.12", "3.01"],
    ]
    assert cells("second") == [["second", "maskgr", "smoke", "toy", "lsa-2x10", "interrupted", "—"]]
    assert "stale" not in shown.stdout
    write_embeddings(full.dataset("toy"), seed=1)
    shown = maskgr("show")
    assert cells("lsa-2x10")[0][-1] == "its embeddings changed"
    assert [row[-1] for row in cells("first")] == ["its sids changed"] * 2


def test_show_one_run_in_full(full: Workspace, maskgr: Command) -> None:
    shown = maskgr("show", "first")
    assert shown.returncode == 0, shown.stderr
    for text in (
        "train.steps",
        "inputs.sids.sha256",
        "2026-01-01",
        "Evaluations of first",
        "greedy-t3",
        "5.12",
        "25.00",
    ):
        assert text in shown.stdout
    write_run(full, "second")
    assert "No evaluation yet. Run `maskgr eval second`." in maskgr("show", "second").stdout
    refused = maskgr("show", "third")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "No run 'third'" in refused.stderr


def test_show_of_an_empty_workspace_says_how_to_begin(maskgr: Command) -> None:
    shown = maskgr("show")
    assert shown.returncode == 0
    assert "is empty. Begin with `maskgr download ml-100k`" in shown.stdout
