"""Commands that take a bundle, and the options of `maskgr export`; test_hub.py runs the command itself."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.bundle.config import BundleConfig
from pipelines.decode.config import Decoding
from pipelines.errors import UserError
from pipelines.recommend.everyone import recommend_to_everyone
from pipelines.recommend.load import load
from pipelines.recommend.model import Model
from tests.bundle.conftest import Bundled
from tests.conftest import ListProgress

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_histories_of_a_file_without_a_workspace(
    maskgr: Run, model: Callable[..., Model], bundled: Bundled, tmp_path: Path
) -> None:
    (tmp_path / "histories.csv").write_text("user,item\nb,item-9\na,item-4\na,item-5\nc,unknown\n")
    asked = ("--from", "histories.csv", "-k", 4, "--format", "json")
    found = maskgr("recommend", bundled("maskgr"), *asked)
    assert found.returncode == 0, found.stderr
    assert not (tmp_path / "workspace").exists()
    assert "Run: maskgr, of the bundle" in found.stderr
    rows = json.loads(found.stdout)
    expected = model("maskgr").recommend([["item-9"], ["item-4", "item-5"], []], k=4)
    assert [row["item_id"] for row in rows] == expected["item_id"].to_list()
    assert [row["user_id"] for row in rows] == ["b"] * 4 + ["a"] * 4 + ["c"] * 4
    assert [row["source"] for row in rows] == ["model"] * 8 + ["popularity"] * 4


def test_there_are_no_recommendations_to_everyone(bundled: Bundled, tmp_path: Path) -> None:
    bundle = load(bundled("sasrec"))
    query = bundle.query(Decoding(), 3)
    with pytest.raises(UserError, match="is a bundle, which holds no users"):
        recommend_to_everyone(bundle, tmp_path / "all.parquet", query, ListProgress())
    assert not any(tmp_path.iterdir())


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
