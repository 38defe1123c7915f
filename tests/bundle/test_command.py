"""`maskgr export` as a subprocess, and the commands that take a bundle."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.bundle.config import BundleConfig
from pipelines.errors import UserError
from pipelines.recommend.model import Model
from pipelines.workspace import Workspace
from tests.bundle.conftest import Bundled

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_a_run_is_exported_and_recommends_elsewhere(
    maskgr: Run, store: Workspace, model: Callable[..., Model], tmp_path: Path
) -> None:
    """Histories of a file, in a workspace that does not exist."""
    run = model("maskgr")
    done = maskgr("export", "maskgr", "--output", "bundle", MASKGR_WORKSPACE=str(store.root))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "bundle\n"
    assert "maskgr is exported to bundle" in done.stderr
    (tmp_path / "histories.csv").write_text("user,item\nb,item-9\na,item-4\na,item-5\nc,unknown\n")
    found = maskgr("recommend", "bundle", "--from", "histories.csv", "-k", 4, "--format", "json")
    assert found.returncode == 0, found.stderr
    assert not (tmp_path / "workspace").exists()
    rows = json.loads(found.stdout)
    expected = run.recommend([["item-9"], ["item-4", "item-5"], []], k=4)
    assert [row["item_id"] for row in rows] == expected["item_id"].to_list()
    assert [row["user_id"] for row in rows] == ["b"] * 4 + ["a"] * 4 + ["c"] * 4
    assert [row["source"] for row in rows] == ["model"] * 8 + ["popularity"] * 4


def test_what_needs_users_is_refused_in_a_line(maskgr: Run, bundled: Bundled) -> None:
    done = maskgr("recommend", bundled("sasrec"), "--all-users", "--output", "all.parquet")
    assert done.returncode == 2
    assert "is a bundle, which holds no users" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"private": True}, "--private needs --push"),
        ({"onnx_items": 5}, "--onnx-items 5 needs --onnx"),
        ({"onnx": True, "onnx_items": 0}, "--onnx-items is 0; it must be between 1 and"),
        ({"push": "name"}, "--push 'name' is no name of a repository. Write OWNER/NAME."),
        ({"push": "a/../b"}, "is no name of a repository"),
    ],
    ids=str,
)
def test_options_without_effect_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        BundleConfig(**settings)
