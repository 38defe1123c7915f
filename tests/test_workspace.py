"""Which artifact a command means."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipelines import __version__, artifacts
from pipelines.errors import UserError
from pipelines.names import checked_name
from pipelines.workspace import FORMAT_VERSION, UnsupportedFormat, Workspace, layout
from tests.conftest import ROOT, write_toy


def touch(path: Path, when: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")
    os.utime(path, ns=(when, when))
    return path


def test_option_before_environment_before_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MASKGR_WORKSPACE", raising=False)
    assert Workspace.find().root == Path("data")
    monkeypatch.setenv("MASKGR_WORKSPACE", str(tmp_path / "env"))
    assert Workspace.find().root == tmp_path / "env"
    assert Workspace.find(tmp_path / "option").root == tmp_path / "option"
    file = touch(tmp_path / "file")
    with pytest.raises(UserError, match="file is a file. Name a folder with --workspace or MASKGR_WORKSPACE"):
        Workspace.find(file)


def test_a_workspace_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    file, link = touch(tmp_path / "file"), tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    for path, reason in (
        (file / "below" / "it", f"lies in {file}, which is a file"),
        (link, f"needs {link}, a link to {tmp_path / 'nowhere'}, which does not exist"),
        (link / "below", f"needs {link}, a link to"),
        (tmp_path / ("x" * 300), r"cannot be used \(File name too long\)"),
    ):
        with pytest.raises(
            UserError,
            match=f"The workspace .* {reason}.*. Name a folder with --workspace or MASKGR_WORKSPACE",
        ):
            Workspace.find(path)
    assert Workspace.find(tmp_path / "new" / "one").root == tmp_path / "new" / "one"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link"]  # looking leaves nothing


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc")
def test_nothing_can_be_written_under_proc() -> None:
    for path in ("/proc", "/proc/new"):
        with pytest.raises(UserError, match=f"The workspace {path} cannot be used"):
            Workspace.find(Path(path))


def test_a_workspace_that_holds_something_need_not_be_writable(
    toy: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    assert Workspace.find(toy.root) == toy
    with pytest.raises(UserError, match="cannot be used .Permission denied"):
        Workspace.find(toy.root / "other")


@pytest.mark.parametrize("name", ["beauty", "ml-100k", "lsa-4x256", "a.b_c+d", "7", "_x", "x" * 128])
def test_names_that_can_be_folders(name: str) -> None:
    assert checked_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "x" * 129,
        "a\u202eb",
        "a\x1b",
        ".",
        "..",
        "../x",
        "a/b",
        "a\\b",
        "-x",
        ".hidden",
        "a b",
        "a\n",
        "ü",
    ],
)
def test_names_that_cannot(workspace: Workspace, name: str) -> None:
    for use in (
        checked_name,
        workspace.dataset,
        workspace.run,
        workspace.downloads,
        workspace.dataset("d").sids,
    ):
        with pytest.raises(UserError, match="cannot be a name"):
            use(name)


def test_what_a_killed_command_leaves_is_no_data_set_and_no_run(toy: Workspace) -> None:
    touch(toy.root / "datasets" / ".toy-x1y2" / "sequences.parquet")
    touch(toy.root / "runs" / ".r-x1y2" / "config.json")
    touch(
        toy.root / "datasets" / "copy of toy" / "sequences.parquet"
    )  # nor is what no command of ours could have made
    touch(toy.root / "runs" / "x\x1b[1m" / "config.json")
    assert [d.name for d in toy.datasets] == ["toy"]
    assert toy.runs == []


def test_the_data_set_last_used_unless_named(workspace: Workspace) -> None:
    with pytest.raises(
        UserError, match="No data set in .*Run `maskgr download beauty` or `maskgr import NAME"
    ):
        workspace.require_dataset()
    write_toy(workspace, name="one")
    write_toy(workspace, name="two")
    assert [d.name for d in workspace.datasets] == ["one", "two"]
    assert workspace.require_dataset().name == "two"
    assert workspace.require_dataset("one").name == "one"
    workspace.use("one")
    assert workspace.require_dataset().name == "one"
    with pytest.raises(UserError, match="No data set 'three' in .*it holds one, two.*maskgr download three"):
        workspace.require_dataset("three")
    workspace.use("gone")
    with pytest.raises(UserError, match="Name the data set to use with --dataset: .* holds one, two"):
        workspace.require_dataset()
    (workspace.root / "workspace.json").unlink()
    with pytest.raises(UserError, match="Name the data set to use"):
        workspace.require_dataset()


def test_the_newest_run_unless_named(workspace: Workspace) -> None:
    with pytest.raises(UserError, match="No trained run in .*runs. Run `maskgr train` first"):
        workspace.require_run()
    touch(workspace.run("b").config, when=3)
    touch(workspace.run("a").config, when=5)
    touch(workspace.run("c").config, when=4)
    workspace.run("empty").path.mkdir()
    assert [run.name for run in workspace.runs] == ["b", "c", "a"]
    assert workspace.require_run().name == "a"
    assert workspace.require_run("b").path == workspace.root / "runs" / "b"
    with pytest.raises(UserError, match="No run 'empty' in .*it holds b, c, a.*name another"):
        workspace.require_run("empty")


def test_the_newest_embeddings_unless_named(workspace: Workspace) -> None:
    dataset = workspace.dataset("toy")
    with pytest.raises(UserError, match="No embeddings in .*it holds none.*Run `maskgr embed` first"):
        dataset.require_embeddings()
    touch(dataset.embeddings("new"), when=2)
    touch(dataset.embeddings("old"), when=1)
    touch(dataset.path / "embeddings" / ".new.parquet.12.tmp.parquet", when=3)
    assert dataset.require_embeddings() == dataset.embeddings("new")
    assert dataset.require_embeddings("old") == dataset.embeddings("old")
    with pytest.raises(UserError, match="No embeddings 'bert' in .*it holds new, old"):
        dataset.require_embeddings("bert")


def test_listings_leave_out_reports_and_unfinished_files(workspace: Workspace) -> None:
    dataset, run = workspace.dataset("toy"), workspace.run("r")
    for path in (
        dataset.sids("b"),
        dataset.sids("a"),
        dataset.quality("a"),
        dataset.path / "sids" / ".c.parquet",
    ):
        touch(path)
    for folder in ("greedy", ".greedy.7.tmp"):
        touch(run.path / "eval" / folder / "metrics.parquet")
    run.evaluation("empty").mkdir()
    assert dataset.all_sids == [dataset.sids("a"), dataset.sids("b")]
    assert run.evaluations == [run.evaluation("greedy")]


def test_a_damaged_workspace_file_is_named(workspace: Workspace) -> None:
    write_toy(workspace)
    (workspace.root / "workspace.json").write_text("{")
    with pytest.raises(UserError, match="workspace.json cannot be read as JSON"):
        workspace.require_dataset()
    assert workspace.require_dataset("toy").name == "toy"
    for spoilt in (1, [], {"dataset": 7}, {"dataset": ["toy"]}):
        artifacts.write_json(workspace.root / "workspace.json", spoilt)
        with pytest.raises(
            UserError, match=r"workspace.json: .* Remove it, and name the data set with --dataset"
        ):
            workspace.require_dataset()
    artifacts.write_json(workspace.root / "workspace.json", {})
    with pytest.raises(UserError, match="Name the data set to use with --dataset"):
        workspace.require_dataset()


def test_the_readme_of_the_default_workspace_shows_the_layout() -> None:
    assert f"```\n{layout()}```\n" in (ROOT / "data" / "README.md").read_text(encoding="utf-8")


def test_the_layout_names_the_paths_that_are_used(workspace: Workspace) -> None:
    dataset, run = workspace.dataset("NAME"), workspace.run("RUN")
    paths = (
        workspace.config,
        workspace.downloads("NAME"),
        dataset.interactions,
        dataset.items,
        dataset.sequences,
        dataset.embeddings("E"),
        dataset.sids("S"),
        dataset.targets("T"),
        dataset.external("L") / "DECODING",
        run.path,
        run.settings,
        run.anew.path,
        run.evaluation("DECODING"),
        workspace.comparisons("DECODING", "A") / "B.parquet",
        workspace.study("STUDY"),
        workspace.run_result("KEY"),
        workspace.report("RECIPE-BUDGET"),
    )
    listed = [line.split("  ")[0].rstrip("/") for line in layout().splitlines()]
    assert {str(path.relative_to(workspace.root)) for path in paths} == {*listed} - {
        "runs/RUN/eval/diagnosis-…"
    }


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({}, "no format"),
        ({"version": "0.0.9"}, "no format and was written by maskgr 0.0.9"),
        ({"format": 1, "version": "0.0.9"}, "format 1 and was written by maskgr 0.0.9"),
        ({"format": FORMAT_VERSION + 1}, f"format {FORMAT_VERSION + 1}"),
        ({"format": "2"}, "format '2'"),
        ({"format": None, "version": 3}, "format None"),
        (
            {"version": "0.0.9", "dataset": 7},
            "no format and was written by maskgr 0.0.9",
        ),  # not "dataset is 7"
    ],
)
def test_a_run_of_another_format_is_refused(
    workspace: Workspace, values: dict[str, object], found: str
) -> None:
    run = workspace.run("r")
    artifacts.write_json(run.config, values)
    assert not run.has_supported_format
    with pytest.raises(UnsupportedFormat) as raised:
        run.read_config()
    assert str(raised.value) == (
        f"{run.config} has {found}; maskgr {__version__} reads format {FORMAT_VERSION} only. "
        "Train the run again: `maskgr train --force --name r`, with the options of the run."
    )


def test_a_run_of_this_format_is_read(workspace: Workspace) -> None:
    run = workspace.run("r")
    artifacts.write_json(run.config, {"format": FORMAT_VERSION, "dataset": "toy"})
    assert run.has_supported_format
    assert run.read_config() == {"format": FORMAT_VERSION, "dataset": "toy"}
    artifacts.write_json(run.config, {"format": FORMAT_VERSION, "dataset": 7})
    with pytest.raises(
        UserError, match="dataset is 7, expected text. Remove its folder and train the run again"
    ):
        run.read_config()


def test_a_workspace_file_without_format_gets_one_when_it_is_written(workspace: Workspace) -> None:
    write_toy(workspace, name="one")
    artifacts.write_json(workspace.config, {"dataset": "one"})
    assert Workspace.find(workspace.root).require_dataset().name == "one"
    assert artifacts.read_json(workspace.config) == {"dataset": "one"}
    workspace.use("one")
    assert artifacts.read_json(workspace.config) == {"dataset": "one", "format": FORMAT_VERSION}


def test_a_workspace_file_of_a_newer_format_is_refused(workspace: Workspace) -> None:
    write_toy(workspace)
    artifacts.write_json(workspace.config, {"dataset": "toy", "format": FORMAT_VERSION + 1})
    uses = (
        lambda: Workspace.find(workspace.root),
        lambda: workspace.current,
        lambda: workspace.use("toy"),
    )
    message = (
        f"workspace.json has format {FORMAT_VERSION + 1}; maskgr .* up to {FORMAT_VERSION}. Install a newer"
    )
    for use in uses:
        with pytest.raises(UserError, match=message):
            use()
    assert artifacts.read_json(workspace.config)["format"] == FORMAT_VERSION + 1
    artifacts.write_json(workspace.config, {"dataset": "toy", "format": "newest"})
    with pytest.raises(UserError, match="format is 'newest', expected a whole number"):
        workspace.require_dataset()


def test_runs_of_another_format_are_passed_over_unless_named(workspace: Workspace) -> None:
    from pipelines.ablate.engine import expected_minutes
    from pipelines.train.configure import configure
    from pipelines.train.existing import find_unfinished
    from pipelines.train.plan import Plan

    plan = Plan("toy", None, "sasrec", "smoke", *configure("sasrec", "smoke", {"steps": 30}))
    trained = {**plan.to_dict(), "state": "running", "steps": 10, "seconds": 60.0}
    run = workspace.run("r")
    artifacts.write_json(run.config, trained)
    with pytest.raises(UserError, match="There is nothing to resume"):
        find_unfinished(workspace, None)
    with pytest.raises(UnsupportedFormat):
        find_unfinished(workspace, "r")
    assert expected_minutes([run], plan) is None
    artifacts.write_json(run.config, {**trained, "format": FORMAT_VERSION})
    assert find_unfinished(workspace, None) == (run, plan)
    assert expected_minutes([run], plan) == pytest.approx(3)
