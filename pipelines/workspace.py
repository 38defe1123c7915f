"""Where artifacts lie, which one a command means, and what is stale.

WORKSPACE/
    workspace.json                      the data set last downloaded or imported
    downloads/NAME/                     files as fetched, with their checksums
    datasets/NAME/interactions.parquet  items.parquet  sequences.parquet
    datasets/NAME/embeddings/E.parquet
    datasets/NAME/sids/S.parquet        S.quality.parquet
    runs/RUN/config.json                model.safetensors  history.parquet  state.safetensors
    runs/.RUN.anew/                     the same of a training that will take its place
    runs/RUN/eval/DECODING/             ranks.parquet  recommendations.parquet  metrics.parquet
    comparisons/DECODING/A/B.parquet    how run B differs from run A
    studies/STUDY/                      study.json  journal.log  trials.parquet
    ablate/KEY.json                     where a cell of a grid was evaluated, or why not
    reports/RECIPE-BUDGET/              results.parquet  curves.parquet  report.html  table.md  *.png
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from pipelines.durable import settle
from pipelines.errors import UserError
from pipelines.options import shown

ENVIRONMENT = "MASKGR_WORKSPACE"
LONGEST_NAME = 128  # file systems take 255 bytes, and temporary names are longer than the names


class Chosen(TypedDict, total=False):
    """workspace.json."""

    dataset: str


class Source(TypedDict):
    """What something was made from, and the sha256 of its content."""

    path: str
    sha256: str


Best = TypedDict("Best", {"step": int, "recall@10": float})


class RunConfig(TypedDict, total=False):
    """config.json of a run: its plan, and what became of it. One of another version may lack a key."""

    dataset: str
    sids: str | None
    model: str
    preset: str
    model_settings: dict[str, Any]
    train: dict[str, Any]
    created: str
    state: str
    inputs: dict[str, Source]
    version: str
    commit: str | None
    machine: str
    processes: int
    steps: int
    seconds: float
    best: Best | None
    weights: str | None


@dataclass(frozen=True)
class Dataset:
    """The artifacts of one data set."""

    name: str
    path: Path

    @property
    def interactions(self) -> Path:
        return self.path / "interactions.parquet"

    @property
    def items(self) -> Path:
        return self.path / "items.parquet"

    @property
    def sequences(self) -> Path:
        return self.path / "sequences.parquet"

    def embeddings(self, name: str) -> Path:
        return self.path / "embeddings" / f"{checked_name(name)}.parquet"

    def sids(self, name: str) -> Path:
        return self.path / "sids" / f"{checked_name(name)}.parquet"

    def quality(self, sids: str) -> Path:
        return self.path / "sids" / f"{checked_name(sids)}.quality.parquet"

    @property
    def all_embeddings(self) -> list[Path]:
        return sorted((self.path / "embeddings").glob("[!.]*.parquet"))

    @property
    def all_sids(self) -> list[Path]:
        return sorted(
            p for p in (self.path / "sids").glob("[!.]*.parquet") if not p.name.endswith(".quality.parquet")
        )

    def require_embeddings(self, name: str | None = None) -> Path:
        """The named embeddings, else the newest ones.

        Raises:
            UserError: there are none of that name, or none at all.
        """
        have = self.all_embeddings
        if name is None and have:
            return max(have, key=lambda path: path.stat().st_mtime_ns)
        if name is None or not self.embeddings(name).exists():
            which = "No embeddings" if name is None else f"No embeddings {name!r}"
            raise UserError(
                f"{which} in {self.path / 'embeddings'} (it holds {', '.join(p.stem for p in have) or 'none'}). Run `maskgr embed` first."
            )
        return self.embeddings(name)


@dataclass(frozen=True)
class Run:
    """The artifacts of one training run."""

    name: str
    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.json"

    def read_config(self) -> RunConfig:
        """What config.json says.

        Raises:
            UserError: it is missing or spoilt.
        """
        from pipelines import artifacts  # brings pyarrow, which `maskgr --help` must not wait for

        return artifacts.read_json(self.config, RunConfig, "Remove its folder and train the run again.")

    @property
    def weights(self) -> Path:
        return self.path / "model.safetensors"

    @property
    def history(self) -> Path:
        return self.path / "history.parquet"

    @property
    def state(self) -> Path:
        return self.path / "state.safetensors"

    @property
    def anew(self) -> Run:
        """The place of a training that takes this run's place once it is finished."""
        return Run(self.name, self.path.with_name(f".{self.name}.anew"))

    def evaluation(self, decoding: str) -> Path:
        return self.path / "eval" / checked_name(decoding)

    @property
    def evaluations(self) -> list[Path]:
        return sorted(p.parent for p in (self.path / "eval").glob("[!.]*/metrics.parquet"))


@dataclass(frozen=True)
class Workspace:
    """One folder of artifacts."""

    root: Path

    @staticmethod
    def find(option: Path | None = None) -> Workspace:
        """The workspace a command means: the option, else MASKGR_WORKSPACE, else ./data.

        What a killed command was about to put in place there is put in place first.

        Raises:
            UserError: that path is no folder, or holds nothing and nothing can be written there.
        """
        root = Path(option or os.environ.get(ENVIRONMENT) or "data")
        if reason := _unusable(root):
            raise UserError(
                f"The workspace {root} {reason}. Name a folder with --workspace or {ENVIRONMENT}."
            )
        with suppress(OSError):  # of a workspace that may only be read
            for pattern in ("datasets", "datasets/*", "runs", "runs/*/eval", "reports"):
                for folder in root.glob(pattern):
                    settle(folder)
        return Workspace(root)

    def downloads(self, name: str) -> Path:
        return self.root / "downloads" / checked_name(name)

    def dataset(self, name: str) -> Dataset:
        """The place of a data set, whether or not it exists yet."""
        return Dataset(name, self.root / "datasets" / checked_name(name))

    @property
    def datasets(self) -> list[Dataset]:
        found = sorted((self.root / "datasets").glob("[!.]*/sequences.parquet"))
        return [self.dataset(p.parent.name) for p in found if _is_name(p.parent.name)]

    def use(self, dataset: str) -> None:
        """Make `dataset` the one that commands take when none is named."""
        from pipelines import artifacts  # brings pyarrow, which `maskgr --help` must not wait for

        artifacts.write_json(self.root / "workspace.json", {"dataset": dataset})

    @property
    def current(self) -> str | None:
        """The data set last downloaded or imported.

        Raises:
            UserError: workspace.json is spoilt.
        """
        from pipelines import artifacts  # brings pyarrow, which `maskgr --help` must not wait for

        path = self.root / "workspace.json"
        found = (
            artifacts.read_json(path, Chosen, "Remove it, and name the data set with --dataset.")
            if path.exists()
            else {}
        )
        return found.get("dataset")

    def require_dataset(self, name: str | None = None) -> Dataset:
        """The named data set, else the one last downloaded or imported.

        Raises:
            UserError: there is none of that name, or none at all.
        """
        have = [d.name for d in self.datasets]
        if name is None:
            name = self.current
            if name not in have and have:
                raise UserError(
                    f"Name the data set to use with --dataset: {self.root} holds {', '.join(have)}."
                )
            if name not in have:
                raise UserError(
                    f"No data set in {self.root}. Run `maskgr download beauty` or `maskgr import NAME …` first."
                )
        if name not in have:
            raise UserError(
                f"No data set {name!r} in {self.root} (it holds {', '.join(have) or 'none'}). "
                f"Run `maskgr download {name}` or `maskgr import {name} …` first."
            )
        return self.dataset(name)

    def run(self, name: str) -> Run:
        """The place of a run, whether or not it exists yet."""
        return Run(name, self.root / "runs" / checked_name(name))

    def study(self, name: str) -> Path:
        """The folder of a search for hyperparameters, whether or not it exists yet."""
        return self.root / "studies" / checked_name(name)

    @property
    def outcomes(self) -> Path:
        """The folder of what became of the cells of grids."""
        return self.root / "ablate"

    def run_result(self, key: str) -> Path:
        """What became of one cell, whether or not it exists yet."""
        return self.outcomes / f"{checked_name(key)}.json"

    def report(self, name: str) -> Path:
        """The folder of a report, whether or not it exists yet."""
        return self.root / "reports" / checked_name(name)

    @property
    def reports(self) -> list[Path]:
        """The results of all reports."""
        return sorted((self.root / "reports").glob("[!.]*/results.parquet"))

    @property
    def runs(self) -> list[Run]:
        """All runs, oldest first."""
        found = [
            self.run(p.parent.name)
            for p in (self.root / "runs").glob("[!.]*/config.json")
            if _is_name(p.parent.name)
        ]
        return sorted(found, key=lambda run: run.config.stat().st_mtime_ns)

    def comparisons(self, evaluation: str, baseline: str) -> Path:
        """The folder of how runs, a file each, differ from the run `baseline`."""
        return self.root / "comparisons" / checked_name(evaluation) / checked_name(baseline)

    def require_run(self, name: str | None = None) -> Run:
        """The named run, else the newest one.

        Raises:
            UserError: there is none of that name, or none at all.
        """
        runs = self.runs
        if name is None:
            if not runs:
                raise UserError(f"No trained run in {self.root / 'runs'}. Run `maskgr train` first.")
            return runs[-1]
        for run in runs:
            if run.name == name:
                return run
        raise UserError(
            f"No run {name!r} in {self.root / 'runs'} (it holds {', '.join(r.name for r in runs) or 'none'}). "
            "Run `maskgr train` first or name another."
        )


def checked_name(name: str) -> str:
    """`name` if it can be a folder's name.

    Raises:
        UserError: it is empty, too long, or holds anything but letters, digits, dot, dash, plus and underscore.
    """
    if _is_name(name):
        return name
    if len(name) > LONGEST_NAME:
        raise UserError(
            f"{shown(name)} cannot be a name: it has {len(name):,} characters, and a name has at most {LONGEST_NAME}."
        )
    raise UserError(
        f"{shown(name)} cannot be a name: use letters, digits, dot, dash, plus and underscore, and begin with a letter or digit."
    )


def _is_name(name: str) -> bool:
    return len(name) <= LONGEST_NAME and bool(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._+-]*", name))


def _unusable(root: Path) -> str | None:
    """Why a folder cannot be a workspace, if it cannot: one that holds artifacts need only be readable."""
    import tempfile  # not at the top: `maskgr --help` need not wait for it

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
