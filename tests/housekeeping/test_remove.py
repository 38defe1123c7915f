"""What a removal takes, what protects from it, and what is left."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines import artifacts
from pipelines.durable import locked, staging
from pipelines.errors import UserError
from pipelines.housekeeping.parts import find_part, size_of
from pipelines.housekeeping.remove import dependents, remove, to_remove
from pipelines.workspace import Workspace
from tests.conftest import PATIENCE, ROOT
from tests.housekeeping.conftest import DECODING
from tests.test_inventory import write_run

Maskgr = Callable[..., subprocess.CompletedProcess[str]]
COMPARISON = f"comparisons/{DECODING}/first/second"


def files(workspace: Workspace) -> set[str]:
    """Return the paths of all files of a workspace."""
    return {str(path.relative_to(workspace.root)) for path in workspace.root.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("name", "others"),
    [
        (COMPARISON, []),
        ("studies/search", []),
        (f"runs/second/eval/{DECODING}", [COMPARISON]),
        ("runs/first", [COMPARISON]),
        ("datasets/toy/sids/lsa-2x10", ["runs/first", "runs/second", COMPARISON]),
        (
            "datasets/toy/embeddings/lsa",
            ["datasets/toy/sids/lsa-2x10", "runs/first", "runs/second", COMPARISON],
        ),
        ("datasets/toy", ["runs/first", "runs/second", "studies/search", COMPARISON]),
    ],
)
def test_what_was_made_from_a_part_protects_it(compared: Workspace, name: str, others: list[str]) -> None:
    part = find_part(compared, name)
    assert sorted(p.name for p in dependents(compared, [part])) == sorted(others)
    before = files(compared)
    if others:
        with pytest.raises(
            UserError, match=rf"depends? on {name}. Remove (it|them) too with --with-dependents"
        ):
            to_remove(compared, [name], False)
    parts = to_remove(compared, [name], True)
    assert {p.name for p in parts} == {name, *others}
    remove(compared, parts)
    gone = {f for f in before if any(f.startswith((f"{p}/", f"{p}.")) for p in (name, *others))}
    assert gone
    assert files(compared) == before - gone
    assert not [*compared.root.rglob(".maskgr-*")]


def test_what_lies_inside_is_taken_once(compared: Workspace) -> None:
    names = [f"runs/first/eval/{DECODING}", "runs/first", "runs/first/", COMPARISON]
    assert [part.name for part in to_remove(compared, names, False)] == [COMPARISON, "runs/first"]


def test_a_part_goes_before_those_that_it_was_made_from(compared: Workspace) -> None:
    names = [part.name for part in to_remove(compared, ["datasets/toy/embeddings/lsa"], True)]
    assert names == [
        COMPARISON,
        "runs/first",
        "runs/second",
        "datasets/toy/sids/lsa-2x10",
        "datasets/toy/embeddings/lsa",
    ]


def test_the_new_training_of_a_run_goes_with_it(compared: Workspace) -> None:
    artifacts.write_json(compared.run("first").anew.config, {"dataset": "toy"})
    remove(compared, to_remove(compared, ["runs/first"], True))
    assert not [*(compared.root / "runs").glob("*first*")]


def test_evaluations_of_external_lists_are_a_part(compared: Workspace) -> None:
    """A comparison with them protects them; the data set stays."""
    dataset = compared.dataset("toy")
    folder = dataset.external("theirs") / "test-k20"
    source = compared.run("first").evaluation(DECODING) / "metrics.parquet"
    artifacts.write_again(folder / "metrics.parquet", source, {})
    comparison = compared.root / "comparisons" / DECODING / "first" / "theirs.parquet"
    old = comparison.with_name("second.parquet")
    recorded = {"path": os.path.relpath(folder / "metrics.parquet", comparison.parent), "sha256": "0"}
    artifacts.write_again(comparison, old, {"run": recorded})
    name = f"comparisons/{DECODING}/first/theirs"
    with pytest.raises(UserError, match=f"{name} depends on datasets/toy/external/theirs"):
        to_remove(compared, ["datasets/toy/external/theirs"], False)
    remove(compared, to_remove(compared, ["datasets/toy/external/theirs"], True))
    assert not folder.parent.exists() and not comparison.exists() and old.exists()
    assert dataset.sequences.exists()


def test_the_current_data_set_is_none_after_its_removal(compared: Workspace) -> None:
    remove(compared, to_remove(compared, ["datasets/toy"], True))
    assert compared.current is None
    with pytest.raises(UserError, match="No data set in .*Run `maskgr download beauty`"):
        compared.require_dataset()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("first", "'first' names no part of a workspace. Write one of datasets/NAME, "),
        ("runs/first/config.json", "names no part of a workspace"),
        ("runs/../first", "names no part of a workspace"),
        ("runs/..", r"'..' cannot be a name"),
        ("runs/third", r"No run 'third' in .*runs \(it holds first, second\)"),
        ("datasets/toy/sids/x", r"No semantic IDs 'x' in .*sids \(it holds lsa-2x10\)"),
        ("reports/x", r"No report 'x' in .*reports \(it holds none\)"),
    ],
)
def test_a_name_of_nothing_is_refused(compared: Workspace, name: str, message: str) -> None:
    before = files(compared)
    with pytest.raises(UserError, match=message):
        to_remove(compared, ["runs/first", name], True)
    assert files(compared) == before


def test_nothing_is_removed_if_a_part_cannot_be(compared: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    parts, before, rename = to_remove(compared, ["datasets/toy"], True), files(compared), Path.rename

    def failing(path: Path, target: Path) -> Path:
        if path.name == "toy":
            raise PermissionError(13, "Permission denied", str(path))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(PermissionError):
        remove(compared, parts)
    assert files(compared) == before
    assert compared.current == "toy"


HOLDS = """
import sys
from pathlib import Path
from pipelines.durable import locked
with locked(Path(sys.argv[1])):
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_a_run_that_another_process_trains_stays(compared: Workspace) -> None:
    write_run(compared, "third", inputs={})
    parts, before = to_remove(compared, ["datasets/toy"], True), files(compared)
    for folder in ("third", "beginning"):  # the second has not written its config.json yet
        command = [sys.executable, "-c", HOLDS, str(compared.root / "runs" / folder)]
        with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as training:
            assert training.stdout.readline() == b"ready\n"
            with pytest.raises(UserError, match=f"runs/{folder} is in use by a training"):
                remove(compared, parts)
            assert files(compared) == before
            training.stdin.close()
    remove(compared, parts)
    assert not compared.run("third").path.exists()


@pytest.mark.parametrize("busy", ["runs/first/eval/.maskgr-1.tmp", "datasets/toy/embeddings/.lsa.parts"])
def test_what_a_command_writes_in_stays(compared: Workspace, busy: str) -> None:
    parts = to_remove(compared, ["datasets/toy"], True)
    with locked(compared.root / busy), pytest.raises(UserError, match="is in use by a command that writes"):
        remove(compared, parts)
    with staging(compared.run("first").path / "eval"), pytest.raises(UserError, match="runs/first is in use"):
        remove(compared, parts)
    remove(compared, parts)


def test_sizes_count_all_files(tmp_path: Path) -> None:
    (tmp_path / "a" / ".b").mkdir(parents=True)
    (tmp_path / "a" / "x").write_bytes(b"12345")
    (tmp_path / "a" / ".b" / "y").write_bytes(b"123")
    (tmp_path / "a" / "link").symlink_to(tmp_path / "a" / "x")
    link = len(str(tmp_path / "a" / "x"))
    assert (size_of(tmp_path / "a"), size_of(tmp_path / "a" / "x"), size_of(tmp_path / "gone")) == (
        8 + link,
        5,
        0,
    )


def test_without_a_terminal_yes_is_needed(compared: Workspace, maskgr: Maskgr) -> None:
    refused = maskgr("rm", COMPARISON)
    assert refused.returncode == 2
    assert f"Remove {COMPARISON} (" in refused.stderr and "answer with --yes." in refused.stderr
    assert f"{COMPARISON}.parquet" in files(compared)
    done = maskgr("rm", COMPARISON, "--yes")
    assert (done.returncode, done.stdout) == (0, "")
    assert f"Removed {COMPARISON} (" in done.stderr
    assert f"{COMPARISON}.parquet" not in files(compared)


@pytest.mark.parametrize(("answer", "removed"), [("n", False), ("y", True)])
def test_a_terminal_is_asked(compared: Workspace, answer: str, removed: bool) -> None:
    parent, terminal = os.openpty()
    command = [sys.executable, "-m", "maskgr_cli", "rm", "runs/first", "--with-dependents"]
    environment = {**os.environ, "MASKGR_WORKSPACE": str(compared.root)}
    with subprocess.Popen(
        command, cwd=ROOT, stdin=terminal, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        os.write(parent, f"{answer}\n".encode())
        _, errors = process.communicate(timeout=PATIENCE)
    os.close(parent)
    os.close(terminal)
    assert process.returncode == 0
    assert f"{COMPARISON} (" in errors and "runs/first (" in errors and "Remove these 2 parts (" in errors
    assert ("Nothing is removed." in errors) != removed
    assert compared.run("first").config.exists() != removed
