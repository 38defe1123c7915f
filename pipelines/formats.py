"""Content and format version of workspace.json and of a run's config.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

from pipelines import __version__
from pipelines.errors import UserError
from pipelines.options import quoted

FORMAT_VERSION = 2  # of both files; earlier formats have no number
LEAVE_ONE_OUT, TEMPORAL = "leave-one-out", "temporal"  # kinds of split of a data set


class WorkspaceConfig(TypedDict, total=False):
    """Content of workspace.json."""

    format: int
    dataset: str


class Source(TypedDict):
    """Path of a file that something was made from, and the sha256 of its content."""

    path: str
    sha256: str


class FinalConfig(TypedDict):
    """The run whose settings a final run was trained with; see `pipelines.train.plan.Final`."""

    of: str
    weights: str
    steps: int


class ContinuedConfig(TypedDict):
    """The run whose weights a training began with; see `pipelines.train.plan.Continued`."""

    of: str
    weights: str
    first_steps: int
    first_rate: float


class SplitConfig(TypedDict):
    """Temporal split that a run was trained with; see `pipelines.temporal.TemporalSplit`."""

    validation_from: float
    test_from: float
    per_second: float


class MemberConfig(TypedDict):
    """A member of a committee: its run's name, its weight, and its run's config.json."""

    run: str
    weight: float
    config: RunConfig


Best = TypedDict("Best", {"step": int, "recall@10": float})


class RunConfig(TypedDict, total=False):
    """Content of a run's config.json: the plan of the run, and its state and results so far.

    A committee has members and the origin of their weights in place of a preset, settings and results.
    """

    format: int
    dataset: str
    sids: str | None
    model: str
    preset: str
    model_settings: dict[str, Any]
    train: dict[str, Any]
    final: FinalConfig
    continued: ContinuedConfig
    split: SplitConfig
    teachers: dict[str, str]
    members: list[MemberConfig]
    weighting: str
    created: str
    state: str
    inputs: dict[str, Source]
    items: int
    catalogue: dict[str, str]
    version: str
    commit: str | None
    machine: str
    shuffle: str
    processes: int
    steps: int
    seconds: float
    best: Best | None
    dense_weight: float
    weights: str | None


def trainings(config: RunConfig) -> list[RunConfig]:
    """Return the configurations of the trainings behind a run: its own, or those of a committee's members."""
    return [member["config"] for member in config.get("members", ())] or [config]


def finals_of(config: RunConfig) -> list[str]:
    """Return the names of the runs that a run, or its members, are final runs of; none for other runs."""
    return [training["final"]["of"] for training in trainings(config) if training.get("final")]


class UnsupportedFormat(UserError):
    """A run's config.json of another format than `FORMAT_VERSION`.

    Attributes:
        found: format of the file in words, e.g. "format 1" or "no format".
    """

    def __init__(self, path: Path, run: str, values: Mapping[str, Any]) -> None:
        """
        Args:
            path: path of the file.
            run: name of the run.
            values: content of the file.
        """
        self.found = f"format {quoted(values['format'])}" if "format" in values else "no format"
        version = values.get("version")
        writer = f" and was written by maskgr {version}" if isinstance(version, str) else ""
        super().__init__(
            f"{path} has {self.found}{writer}; maskgr {__version__} reads format {FORMAT_VERSION} only. "
            f"Train the run again: `maskgr train --force --name {run}`, with the options of the run."
        )


def read_run_config(path: Path, run: str) -> RunConfig:
    """Read a run's config.json.

    Args:
        path: path of the file.
        run: name of the run.

    Raises:
        UnsupportedFormat: the file has another format than `FORMAT_VERSION`.
        UserError: the file is missing or damaged.
    """
    from pipelines import artifacts  # loads pyarrow, which `maskgr --help` does not need

    advice = "Remove its folder and train the run again."
    values = artifacts.read_json(path, advice=advice)
    if values.get("format") != FORMAT_VERSION:
        raise UnsupportedFormat(path, run, values)
    config: RunConfig = artifacts.read_json(path, RunConfig, advice)
    return config


def refuse_newer_format(path: Path) -> None:
    """Refuse a workspace.json of a newer format.

    A file that is missing or damaged passes: the code that needs it reports it.

    Raises:
        UserError: the format is newer than `FORMAT_VERSION`.
    """
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return
    number = values.get("format") if isinstance(values, dict) else None
    if type(number) is int and number > FORMAT_VERSION:
        raise UserError(
            f"{path} has format {quoted(number)}; maskgr {__version__} reads formats up to {FORMAT_VERSION}. "
            "Install a newer maskgr, or name another folder with --workspace."
        )
