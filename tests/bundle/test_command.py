"""`maskgr export` as a subprocess, and the commands that take a bundle."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.recommend.model import Model
from pipelines.workspace import Workspace
from tests.bundle.conftest import Bundled

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_a_run_is_exported_and_recommends_elsewhere(
    maskgr: Run, store: Workspace, model: Callable[..., Model], tmp_path: Path
) -> None:
    model("maskgr")
    done = maskgr("export", "maskgr", "--output", "bundle", MASKGR_WORKSPACE=str(store.root))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "bundle\n"
    assert "maskgr is exported to bundle" in done.stderr
    history = ["--history", "item-3,item-4,item-5", "-k", 4, "--where", "price < 30", "--format", "json"]
    here = maskgr("recommend", "bundle", *history)  # in a workspace that does not exist
    there = maskgr("recommend", "maskgr", *history, MASKGR_WORKSPACE=str(store.root))
    assert here.returncode == there.returncode == 0, here.stderr + there.stderr
    assert here.stdout == there.stdout
    assert len(json.loads(here.stdout)) == 4
    again = maskgr("export", "maskgr", "--output", "bundle", MASKGR_WORKSPACE=str(store.root))
    assert again.returncode == 2
    assert "Replace it with --force" in again.stderr
    similar = maskgr("items", "similar", "item-3", "--run", "bundle", "-k", 1)
    assert "Similar to item-3: Thing 3" in similar.stdout


def test_histories_of_a_file_and_a_title_reach_a_bundle(
    maskgr: Run, bundled: Bundled, tmp_path: Path
) -> None:
    (tmp_path / "histories.csv").write_text("user,item\nb,item-9\na,item-4\na,item-5\nc,unknown\n")
    done = maskgr("recommend", bundled("sasrec"), "--from", "histories.csv", "-k", 1, "--format", "json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [(row["user_id"], row["source"]) for row in rows] == [
        ("b", "model"),
        ("a", "model"),
        ("c", "popularity"),
    ]
    named = maskgr("recommend", bundled("maskgr"), "--like", "thing 42", "-k", 1, "--explain")
    assert named.returncode == 0, named.stderr
    assert "the last: Thing 42" in named.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--user", "user-3"], "is a bundle, which holds no users"),
        (["--sample", 2], "is a bundle, which holds no users"),
        (["--all-users", "--output", "all.parquet"], "is a bundle, which holds no users"),
    ],
    ids=lambda value: str(value[0]) if isinstance(value, list) else "",
)
def test_what_needs_users_is_refused_in_a_line(
    maskgr: Run, bundled: Bundled, arguments: list[object], message: str
) -> None:
    done = maskgr("recommend", bundled("sasrec"), *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--private"], "--private needs --push"),
        (["--onnx-items", 5], "--onnx-items 5 needs --onnx"),
        (["--push", "name"], "--push 'name' is no name of a repository. Write OWNER/NAME."),
        (["--push", "a/../b"], "is no name of a repository"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_a_mistake_costs_one_line(maskgr: Run, arguments: list[object], message: str) -> None:
    done = maskgr("export", "--output", "bundle", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
