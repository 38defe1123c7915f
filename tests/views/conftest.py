"""Records of a training, without a training; the command line in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from maskgr_cli import console
from maskgr_cli.app import app
from pipelines import artifacts
from pipelines.workspace import Run


def write_history(run: Run) -> None:
    """Write losses, rates, times and two validations; one loss is not finite."""
    rows = [
        *((1, "loss", 9.0), (1, "learning_rate", 0.01), (1, "seconds", 0.5)),
        *((20, "loss", 7.0), (20, "learning_rate", 0.02), (20, "seconds", 5.0), (20, "recall@10", 0.05)),
        *((40, "loss", float("nan")), (60, "loss", 6.5), (60, "recall@10", 0.0625)),
    ]
    step, measure, value = zip(*rows, strict=True)
    table = pa.table({"step": pa.array(step, pa.int64()), "measure": measure, "value": value})
    artifacts.write(run.history, "history", table, config={})


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., str]:
    """Run a command line in this process and return its standard output: `typed("show", "first")`.

    Its workspace is tmp_path/workspace, and it runs in tmp_path. An error of the user raises.
    """
    monkeypatch.setenv("MASKGR_WORKSPACE", str(tmp_path / "workspace"))
    monkeypatch.setattr(console.out(), "width", 200)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(app, [*arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout

    return run
