"""Workspace, the folder of all artifacts: its layout, its data sets and its runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipelines.durable import finish_changes, finish_installs
from pipelines.errors import UserError
from pipelines.formats import FORMAT_VERSION as FORMAT_VERSION
from pipelines.formats import RunConfig as RunConfig
from pipelines.formats import UnsupportedFormat as UnsupportedFormat
from pipelines.formats import WorkspaceConfig, refuse_newer_format
from pipelines.names import checked_name, is_name
from pipelines.parts import Dataset as Dataset
from pipelines.parts import Run as Run

ENVIRONMENT = "MASKGR_WORKSPACE"

# Patterns of the folders in which files are moved into place together, see `durable.together`.
INSTALLED = ("datasets", "datasets/*", "datasets/*/external/*", "runs", "runs/*/eval", "reports")
# Path in the workspace → content. Names in capitals stand for names that vary.
LAYOUT = {
    "workspace.json": "format of the workspace, and the data set last downloaded or imported",
    "downloads/NAME/": "files as fetched, and their checksums",
    "datasets/NAME/interactions.parquet": "user, item, timestamp or position, as in the source",
    "datasets/NAME/items.parquet": "items 0 … N−1 with their texts and columns",
    "datasets/NAME/sequences.parquet": "items of each user in order of time",
    "datasets/NAME/embeddings/E.parquet": "one vector per item; E.encoder.parquet is the encoder as fitted",
    "datasets/NAME/sids/S.parquet": "one semantic ID per item; S.codebooks.parquet; report S.quality.parquet",
    "datasets/NAME/targets/T.parquet": "soft targets: the teachers' best items at each place of sequences",
    "datasets/NAME/external/L/DECODING/": "ranks, recommendations and metrics of another program's lists",
    "runs/RUN/": "config.json, model.safetensors, history.parquet, state.safetensors (to resume)",
    "runs/RUN/train.toml": "options that repeat the run, for `maskgr train --config`",
    "runs/.RUN.anew/": "the same files of a repeated training that replaces the run when it is finished",
    "runs/RUN/eval/DECODING/": "ranks.parquet, recommendations.parquet, metrics.parquet",
    "runs/RUN/eval/diagnosis-…/": "diagnosis.parquet",
    "comparisons/DECODING/A/B.parquet": "differences of run B from run A",
    "studies/STUDY/": "hyperparameter search: study.json, journal.log, trials.parquet",
    "ablate/KEY.json": "evaluation of a cell of a grid, or why there is none; jobs/ holds jobs and logs",
    "reports/RECIPE-BUDGET/": "results, curves and groups (*.parquet), report.html, table.md, plots (*.png)",
}


def layout() -> str:
    """Return the layout of a workspace as text, one path a line with its content.

    `data/README.md` holds the same text.
    """
    width = max(map(len, LAYOUT)) + 2
    return "".join(f"{path:<{width}}{content}\n" for path, content in LAYOUT.items())


@dataclass(frozen=True)
class Workspace:
    """Paths in a workspace, see `LAYOUT`.

    Attributes:
        root: folder of the workspace.
    """

    root: Path

    @staticmethod
    def path(option: Path | None = None) -> Path:
        """Return the folder that a command uses: the option, else MASKGR_WORKSPACE, else ./data."""
        return Path(option or os.environ.get(ENVIRONMENT) or "data")

    @staticmethod
    def find(option: Path | None = None) -> Workspace:
        """Return the workspace that a command uses, see `path`.

        If a killed command had begun to move files into place, the move is finished first.

        Raises:
            UserError: the path is not a folder, holds no artifacts and cannot be written, or has a newer
                format.
        """
        root = Workspace.path(option)
        if reason := _unusable(root):
            raise UserError(
                f"The workspace {root} {reason}. Name a folder with --workspace or {ENVIRONMENT}."
            )
        workspace = Workspace(root)
        refuse_newer_format(workspace.config)
        with suppress(OSError):  # a workspace without write permission
            finish_changes(root)
            for pattern in (
                "datasets",
                "datasets/*",
                "datasets/*/external/*",
                "runs",
                "runs/*/eval",
                "reports",
            ):
                for folder in root.glob(pattern):
                    finish_installs(folder)
        return workspace

    @property
    def config(self) -> Path:
        return self.root / "workspace.json"

    def downloads(self, name: str) -> Path:
        return self.root / "downloads" / checked_name(name)

    def dataset(self, name: str) -> Dataset:
        """Return the paths of a data set, which need not exist."""
        return Dataset(name, self.root / "datasets" / checked_name(name))

    @property
    def datasets(self) -> list[Dataset]:
        """All data sets, sorted by name."""
        names = [path.parent.name for path in (self.root / "datasets").glob("[!.]*/sequences.parquet")]
        return [self.dataset(name) for name in sorted(names) if is_name(name)]

    def use(self, dataset: str | None) -> None:
        """Make `dataset` the current data set, which commands use if none is named; None makes none of them.

        Raises:
            UserError: workspace.json has a newer format, or cannot be written.
        """
        from pipelines import artifacts  # loads pyarrow, which `maskgr --help` does not need

        refuse_newer_format(self.config)
        current = {} if dataset is None else {"dataset": dataset}
        artifacts.write_json(self.config, {"format": FORMAT_VERSION, **current})

    @property
    def current(self) -> str | None:
        """Name of the current data set, the one last downloaded or imported.

        Raises:
            UserError: workspace.json is damaged or has a newer format.
        """
        from pipelines import artifacts  # loads pyarrow, which `maskgr --help` does not need

        if not self.config.exists():
            return None
        refuse_newer_format(self.config)
        advice = "Remove it, and name the data set with --dataset."
        config: WorkspaceConfig = artifacts.read_json(self.config, WorkspaceConfig, advice)
        return config.get("dataset")

    def require_dataset(self, name: str | None = None) -> Dataset:
        """Return the named data set, or the current one if `name` is None.

        Raises:
            UserError: there is no data set of that name, or none at all.
        """
        names = [dataset.name for dataset in self.datasets]
        if name is None:
            name = self.current
            if name is None or name not in names:
                raise UserError(self._no_current_dataset(names))
        if name not in names:
            raise UserError(
                f"No data set {name!r} in {self.root} (it holds {', '.join(names) or 'none'}). "
                f"Run `maskgr download {name}` or `maskgr import {name} …` first."
            )
        return self.dataset(name)

    def _no_current_dataset(self, names: list[str]) -> str:
        if names:
            return f"Name the data set to use with --dataset: {self.root} holds {', '.join(names)}."
        return f"No data set in {self.root}. Run `maskgr download beauty` or `maskgr import NAME …` first."

    def run(self, name: str) -> Run:
        """Return the paths of a run, which need not exist."""
        return Run(name, self.root / "runs" / checked_name(name))

    @property
    def runs(self) -> list[Run]:
        """All runs, oldest first."""
        names = [path.parent.name for path in (self.root / "runs").glob("[!.]*/config.json")]
        runs = [self.run(name) for name in names if is_name(name)]
        return sorted(runs, key=lambda run: run.config.stat().st_mtime_ns)

    def require_run(self, name: str | None = None) -> Run:
        """Return the named run, or the newest one if `name` is None.

        Raises:
            UserError: there is no run of that name, or none at all.
        """
        runs = self.runs
        if name is None:
            if not runs:
                raise UserError(f"No trained run in {self.root / 'runs'}. Run `maskgr train` first.")
            return runs[-1]
        for run in runs:
            if run.name == name:
                return run
        names = ", ".join(run.name for run in runs) or "none"
        raise UserError(
            f"No run {name!r} in {self.root / 'runs'} (it holds {names}). "
            "Run `maskgr train` first or name another."
        )

    def final_of(self, run: Run) -> Run | None:
        """Return the newest finished final run that was made from the present training of a run, or None.

        Raises:
            UserError: config.json of the run is missing or damaged.
        """
        return next((final for final, is_current in self._finals_of(run) if is_current), None)

    def outdated_final_of(self, run: Run) -> Run | None:
        """Return the newest finished final run that was made from an earlier training of a run, or None.

        Raises:
            UserError: config.json of the run is missing or damaged.
        """
        return next((final for final, is_current in self._finals_of(run) if not is_current), None)

    def _finals_of(self, run: Run) -> Iterator[tuple[Run, bool]]:
        """Yield the finished final runs of a run, newest first; True for one of its present training."""
        config = run.read_config()
        made_from = {name: source["sha256"] for name, source in config.get("inputs", {}).items()}
        for other in reversed(self.runs):
            with suppress(UserError):  # the run of another version
                values = other.read_config()
                final = values.get("final")
                if not final or final["of"] != run.name or values.get("state") != "finished":
                    continue
                if values.get("continued") != config.get("continued"):
                    continue
                inputs = {name: source["sha256"] for name, source in values.get("inputs", {}).items()}
                yield other, final["weights"] == config.get("weights") and inputs == made_from

    def comparisons(self, evaluation: str, baseline: str) -> Path:
        """Return the folder of comparisons with the run `baseline`; it holds one file per compared run."""
        return self.root / "comparisons" / checked_name(evaluation) / checked_name(baseline)

    def study(self, name: str) -> Path:
        """Return the folder of a hyperparameter search, which need not exist."""
        return self.root / "studies" / checked_name(name)

    @property
    def run_results(self) -> Path:
        """Folder of the results of grid cells."""
        return self.root / "ablate"

    def run_result(self, key: str) -> Path:
        """Return the path of the result of one grid cell, which need not exist."""
        return self.run_results / f"{checked_name(key)}.json"

    def report(self, name: str) -> Path:
        """Return the folder of a report, which need not exist."""
        return self.root / "reports" / checked_name(name)

    @property
    def reports(self) -> list[Path]:
        """Paths of the results.parquet files of all reports."""
        return sorted((self.root / "reports").glob("[!.]*/results.parquet"))


def _unusable(root: Path) -> str | None:
    """Return the reason why a folder cannot be a workspace, or None.

    A folder that holds artifacts need not be writable.
    """
    import tempfile  # not needed by `maskgr --help`

    try:
        if root.exists() and not root.is_dir():
            return "is a file"
        if (root / "datasets").is_dir() or (root / "runs").is_dir():
            return None
        parent = next(
            folder
            for folder in (root.absolute(), *root.absolute().parents)
            if folder.exists() or folder.is_symlink()
        )
        if not parent.exists():
            return f"needs {parent}, a link to {parent.readlink()}, which does not exist"
        with tempfile.TemporaryFile(dir=parent):
            return None
    except NotADirectoryError:
        return f"lies in {parent}, which is a file"
    except OSError as error:
        return f"cannot be used ({error.strerror})"
