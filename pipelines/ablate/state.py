"""State and result of the cells of a grid.

WORKSPACE/ablate/KEY.json holds the result of one cell: the folder of its evaluation, or the reason why there
is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from pipelines import artifacts
from pipelines.ablate.planning import PlannedRun
from pipelines.workspace import Workspace

DONE, FAILED, INTERRUPTED, OPEN = "done", "failed", "interrupted", "to do"


@dataclass(frozen=True)
class RunResult:
    """State and result of one planned run.

    Attributes:
        state: `DONE`, `FAILED`, `INTERRUPTED` or `OPEN`.
        reason: why the run failed; None in any other state.
        files: artifacts of kinds "metrics" and "diagnosis" of a trained run that is done, in this order.
        description: description of the evaluation in one line.
    """

    state: str
    reason: str | None = None
    files: tuple[Path, ...] = ()
    description: str | None = None


class RunResultFile(TypedDict, total=False):
    """Content of KEY.json: either `reason`, or all other keys."""

    reason: str
    run: str
    description: str
    evaluation: str
    diagnosis: str | None


def run_result(workspace: Workspace, planned: PlannedRun) -> RunResult:
    """Read the state of a planned run and, if it is done, the files that hold its metrics.

    Raises:
        UserError: KEY.json is damaged.
    """
    if planned.reason:
        return RunResult(FAILED, planned.reason)
    if planned.plan is None:
        return RunResult(DONE if planned.inputs else OPEN)
    path = workspace.run_result(planned.key) if planned.key else None
    content: RunResultFile = artifacts.read_json(path, RunResultFile) if path and path.exists() else {}
    if content.get("reason"):
        return RunResult(FAILED, content["reason"])
    run = workspace.run(planned.run) if planned.run else None
    files = tuple(run.evaluation(folder) / name for folder, name in _files(content)) if run else ()
    if files and not any(map(artifacts.stale, files)):
        return RunResult(DONE, files=files, description=content.get("description"))
    return RunResult(INTERRUPTED if run and run.config.exists() else OPEN)


def _files(content: RunResultFile) -> list[tuple[str, str]]:
    """Return folder and name of each artifact that a result names."""
    files = [(content["evaluation"], "metrics.parquet")] if "evaluation" in content else []
    diagnosis = content.get("diagnosis")
    return files + ([(diagnosis, "diagnosis.parquet")] if diagnosis else [])


def write_result(workspace: Workspace, key: str, result: RunResultFile) -> None:
    """Write the result of a cell to KEY.json.

    Raises:
        UserError: the file cannot be written.
    """
    artifacts.write_json(workspace.run_result(key), result)
