"""After a renaming the program finds everything by the new name, and nothing else has changed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines import artifacts
from pipelines.decode.config import Decoding
from pipelines.durable import locked
from pipelines.errors import UserError
from pipelines.evaluate.compare import compare_runs
from pipelines.evaluate.config import EvalConfig
from pipelines.evaluate.run import evaluate_run
from pipelines.housekeeping.rename import rename
from pipelines.inventory import overview
from pipelines.train.plan import Plan
from pipelines.train.run import train_run
from pipelines.train.settings_file import read_settings
from pipelines.workspace import Workspace
from tests.conftest import ListProgress, write_toy
from tests.housekeeping.conftest import DECODING
from tests.test_inventory import write_run
from tests.train.conftest import plan, write_sids


def stale(workspace: Workspace) -> list[str]:
    """Return the reasons of all stale artifacts."""
    view = overview(workspace)
    views = [*view.datasets, *view.runs, *(e for run in view.runs for e in run.evaluations)]
    views += [part for dataset in view.datasets for part in (*dataset.embeddings, *dataset.sids)]
    return [view.stale for view in views if view.stale]


def snapshot(workspace: Workspace) -> dict[str, bytes]:
    """Return the content of all files."""
    files = (path for path in workspace.root.rglob("*") if path.is_file())
    return {str(path.relative_to(workspace.root)): path.read_bytes() for path in files}


def test_a_renamed_run_is_evaluated_and_compared_as_before(toy: Workspace, progress: ListProgress) -> None:
    """With real artifacts: nothing is trained, decoded or compared again under the new names."""
    sids, config = write_sids(toy), EvalConfig(Decoding(nfe=1, beams=10))
    runs = {}
    for name in ("old", "other"):
        runs[name] = train_run(toy, plan(sids, steps=2, validations=1), progress, name=name)
        runs[name] = evaluate_run(toy, runs[name], config, progress)
    folder, before = compare_runs(toy, [("old", runs["old"].folder), ("other", runs["other"].folder)])
    rename(toy, "runs/old", "new", progress)
    rename(toy, "datasets/toy", "shop", progress)
    assert [run.name for run in toy.runs] == ["new", "other"]  # the order of time
    assert stale(toy) == []
    progress.messages.clear()
    evaluations = [(name, evaluate_run(toy, toy.run(name), config, progress)) for name in ("new", "other")]
    assert [message.split(" (")[0] for message in progress.messages] == [
        "new is evaluated already",
        "other is evaluated already",
    ]
    assert [e.metrics.to_pylist() for _, e in evaluations] == [
        runs[name].metrics.to_pylist() for name in runs
    ]
    renamed = folder.parent / "new" / "other.parquet"
    kept = artifacts.read(renamed, "comparison")
    assert artifacts.stale(renamed) is None
    assert artifacts.digest(renamed) == artifacts.table_digest(kept)
    assert not folder.exists()
    again, table = compare_runs(toy, [(name, evaluation.folder) for name, evaluation in evaluations])
    assert (again, table.to_pylist()) == (renamed.parent, kept.to_pylist())
    assert table.drop(["baseline"]).to_pylist() == before.drop(["baseline"]).to_pylist()
    finished = train_run(toy, plan_of(toy, "new"), progress, name="new")
    assert "new is trained already" in progress.messages[-1] and finished.path == toy.run("new").path


def plan_of(workspace: Workspace, name: str) -> Plan:
    return Plan.from_dict(workspace.run(name).read_config())


def test_a_run_takes_its_new_training_and_comparisons_on_both_sides_along(
    compared: Workspace, progress: ListProgress
) -> None:
    artifacts.write_json(compared.run("second").anew.config, {"dataset": "toy", "state": "interrupted"})
    before = snapshot(compared)
    rename(compared, "runs/second", "best", progress)
    after = snapshot(compared)

    def moved(path: str) -> str:
        words = [{"second": "best", ".second.anew": ".best.anew"}.get(word, word) for word in path.split("/")]
        return "/".join("best.parquet" if word == "second.parquet" else word for word in words)

    assert {*after} == {*map(moved, before)}
    changed = {path for path in before if after[moved(path)] != before[path]}
    comparison = f"comparisons/{DECODING}/first/second.parquet"
    assert changed == {comparison}  # the metrics of this fixture do not record the name of their run
    table = artifacts.read(compared.root / moved(comparison), "comparison")
    assert table["run"].to_pylist() == ["best"] and table["baseline"].to_pylist() == ["first"]
    assert artifacts.stale(compared.root / moved(comparison)) is None
    assert progress.messages == []


def test_runs_that_were_made_from_a_run_find_it(compared: Workspace, progress: ListProgress) -> None:
    origins = {"final": {"of": "first", "steps": 3}, "continued": {"of": "first", "weights": "x"}}
    for key, value in origins.items():
        write_run(compared, key, **{key: value})
    os.utime(compared.run("final").config, ns=(5, 5))
    rename(compared, "runs/first", "base", progress)
    assert artifacts.read_json(compared.run("final").config)["final"] == {"of": "base", "steps": 3}
    assert artifacts.read_json(compared.run("continued").config)["continued"]["of"] == "base"
    assert compared.run("final").config.stat().st_mtime_ns == 5
    rename(compared, "runs/second", "first", progress)  # the old name is free
    assert artifacts.read_json(compared.run("final").config)["final"]["of"] == "base"


def test_a_data_set_keeps_its_runs_studies_and_the_role_of_the_current_one(
    compared: Workspace, progress: ListProgress
) -> None:
    write_toy(compared, name="other")
    write_run(compared, "elsewhere", dataset="other", sids=None, inputs={})
    elsewhere = compared.run("elsewhere").config.read_bytes()
    compared.use("toy")
    rename(compared, "datasets/toy", "shop", progress)
    assert [dataset.name for dataset in compared.datasets] == ["other", "shop"]
    assert compared.current == "shop"
    for run in (compared.run("first"), compared.run("second")):
        config = artifacts.read_json(run.config)
        assert config["dataset"] == "shop"
        for source in config["inputs"].values():
            assert artifacts.has_digest(run.path / source["path"], source["sha256"])
    assert artifacts.read_json(compared.study("search") / "study.json")["dataset"] == "shop"
    assert compared.run("elsewhere").config.read_bytes() == elsewhere
    assert stale(compared) == []
    rename(compared, "datasets/other", "toy", progress)
    assert compared.current == "shop"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("first", "x", "names no part of a workspace"),
        ("runs/third", "x", "No run 'third'"),
        ("runs/first", "a/b", "'a/b' cannot be a name"),
        ("runs/first", "runs/x", "'runs/x' cannot be a name"),
        ("runs/first", "second", "runs/second exists. Choose another name, or remove it with `maskgr rm`"),
        ("runs/first", "first", "runs/first exists"),
        ("datasets/toy/sids/lsa-2x10", "x", "is a semantic IDs; only runs and data sets can be renamed"),
    ],
)
def test_what_cannot_be_renamed_is_refused(
    compared: Workspace, progress: ListProgress, old: str, new: str, message: str
) -> None:
    before = snapshot(compared)
    with pytest.raises(UserError, match=message):
        rename(compared, old, new, progress)
    assert snapshot(compared) == before


def test_what_is_in_use_is_not_renamed(compared: Workspace, progress: ListProgress) -> None:
    before = snapshot(compared)
    for busy, old in (
        (compared.run("first").path, "runs/first"),
        (compared.run("second").path, "datasets/toy"),
        (compared.study("search"), "datasets/toy"),
        (compared.run("new").path, "runs/first"),  # another command makes the run of the new name
    ):
        with locked(busy), pytest.raises(UserError, match="is in use by a"):
            rename(compared, old, "new", progress)
    assert snapshot(compared) == before


def test_a_file_that_cannot_be_read_or_written_changes_nothing(
    compared: Workspace, progress: ListProgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = compared.run("first").evaluation(DECODING) / "metrics.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[:20] + bytes(20) + whole[40:])
    before = snapshot(compared)
    with pytest.raises(UserError, match="metrics.parquet is not a readable Parquet file"):
        rename(compared, "datasets/toy", "shop", progress)
    assert snapshot(compared) == before
    path.write_bytes(whole)
    before = snapshot(compared)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pyarrow.parquet.write_table", full)
    with pytest.raises(UserError, match="cannot be written in .* .No space left on device.. Free space"):
        rename(compared, "datasets/toy", "shop", progress)
    assert snapshot(compared) == before


def test_records_of_the_past_are_named(compared: Workspace, progress: ListProgress) -> None:
    report = compared.report("table1-small") / "results.parquet"
    report.parent.mkdir(parents=True)
    pa.parquet.write_table(pa.table({"run": ["first", None], "dataset": ["toy", "toy"]}), report)
    artifacts.write_json(compared.run_result("0123"), {"run": "first", "evaluation": DECODING})
    rename(compared, "runs/first", "best", progress)
    assert progress.messages == [
        "Reports are records and keep the name first: table1-small.",
        "The grid that made first does not find it by its new name and would train it again.",
    ]
    progress.messages.clear()
    rename(compared, "runs/best", "first", progress)
    assert progress.messages == []


def test_the_command_renames(
    compared: Workspace, maskgr: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = maskgr("rename", "runs/first", "best", "--workspace", "workspace")  # a relative path
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "Renamed runs/first to best.\n")
    assert sorted(run.name for run in compared.runs) == ["best", "second"]
    assert stale(compared) == []
    assert artifacts.stale(compared.comparisons(DECODING, "best") / "second.parquet") is None


@pytest.mark.parametrize(
    ("part", "new", "expected"),
    [
        ("runs/first", "best", {"best": ("best", "toy", "first-2"), "second": ("second", "toy", "best")}),
        (
            "datasets/toy",
            "shop",
            {"first": ("first", "shop", "first-2"), "second": ("second", "shop", "first")},
        ),
    ],
)
def test_the_configuration_files_of_runs_get_the_new_name(
    compared: Workspace,
    progress: ListProgress,
    part: str,
    new: str,
    expected: dict[str, tuple[str, str, str]],
) -> None:
    """Only where an option's whole value is the name."""
    for name, other in (("first", "first-2"), ("second", "first")):
        text = (
            f'# Of toy, first\nname = "{name}"\ndataset = "toy"\ncontinue = \'{other}\'\nencoder = "first"\n'
        )
        compared.run(name).settings.write_text(text)
    rename(compared, part, new, progress)
    for name, values in expected.items():
        path = compared.run(name).settings
        found = read_settings(path)
        assert (found["name"], found["dataset"], found["continue"], found["encoder"]) == (*values, "first")
        assert path.read_text().startswith("# Of toy, first\n")
