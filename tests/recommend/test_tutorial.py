"""The tutorial of docs/python.md runs, and prints what it says."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.recommend.model import Model
from pipelines.workspace import Workspace

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "python.md"


@pytest.mark.filterwarnings("ignore::pipelines.recommend.model.TruncatedHistory")
def test_the_tutorial_runs(
    store: Workspace, model: Callable[..., Model], capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = model("maskgr")
    (code,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert len([line for line in code.splitlines() if line]) <= 10
    exec(code.replace("data/runs/NAME", str(loaded.run.path)), {})  # noqa: S102 - the document's own code
    printed = capsys.readouterr().out
    history = loaded.history("user-3")
    assert printed.startswith(str(history))
    for item in loaded.recommend([history], k=3)["title"]:
        assert item in printed
    assert "popularity" in printed  # of the empty history
    assert "similar_id" in printed
