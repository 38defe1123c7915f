"""Renaming of runs and data sets: everything that the program finds by the name gets the new one."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import artifacts
from pipelines.durable import Changes, changes, locked
from pipelines.errors import UserError, reading
from pipelines.housekeeping.parts import (
    DATASET,
    REPORT,
    RUN,
    STUDY,
    Part,
    all_parts,
    find_part,
    members_of,
    read_object,
    sources,
)
from pipelines.housekeeping.use import refuse, unused
from pipelines.names import checked_name
from pipelines.progress import Progress
from pipelines.workspace import Workspace

# Kind → keys of configurations, and columns of comparisons, that hold a name of that kind.
KEYS = {DATASET: ("dataset",), RUN: ("run", "baseline")}
# Kind → keys of a run's train.toml that hold a name of that kind.
SETTINGS = {DATASET: ("dataset",), RUN: ("name", "final", "continue")}
ORIGINS = ("final", "continued")  # objects of a run's config.json whose key "of" is the name of another run


def rename(workspace: Workspace, old: str, new: str, progress: Progress) -> None:
    """Rename a run or a data set, and every reference to it by name, all or nothing.

    References are the configurations of runs and studies, the current data set, the provenance of artifacts,
    and comparisons. Reports and results of grids are records of the past and keep the old name; a message
    says so.

    Args:
        old: name of the part, e.g. "runs/first".
        new: new name without the kind, e.g. "best".

    Raises:
        UserError: there is no such part, it is neither a run nor a data set, the new name is taken or cannot
            be a name, a running command works on the part, or a file cannot be read or written.
    """
    workspace = Workspace(_joined(Path.cwd(), str(workspace.root)))
    part = find_part(workspace, old)
    if part.kind not in KEYS:
        raise UserError(f"{part.name} is a {part.kind.name}; only runs and data sets can be renamed.")
    target = part.path.with_name(checked_name(new))
    for path in (target, target.with_name(f".{new}.anew")):
        if path.exists() and not (path.is_dir() and not any(path.iterdir())):
            raise UserError(f"{path} exists. Choose another name, or remove it with `maskgr rm` first.")
    users = [
        other for other in all_parts(workspace, RUN, STUDY) if part.name in sources(workspace, other)
    ]  # of a data set; no part is made from a run
    with (
        unused(workspace, [part, *users]),
        locked(target, lambda: refuse(str(target), "command that makes it")),
        changes(workspace.root) as made,
    ):
        _Renaming(workspace.root, part, new, made).plan()
    for folder in workspace.root.glob(f"comparisons/*/{part.path.name}"):
        with suppress(OSError):  # it is not empty
            folder.rmdir()
    _say_records(workspace, part, progress)


@dataclass(frozen=True)
class _Renaming:
    """Plan of all changes that give a run or a data set another name.

    Attributes:
        root: absolute path of the workspace.
        part: the part.
        new: new name of the part.
        changes: receives the changes.
    """

    root: Path
    part: Part
    new: str
    changes: Changes

    def plan(self) -> None:
        """Plan the changes of folders, JSON files and artifacts."""
        for path in self.part.paths:
            self.changes.rename(path, self._moved(path))
        jsons = ("runs/*/config.json", "studies/*/study.json", "workspace.json")
        for path in (path for pattern in jsons for path in sorted(self.root.glob(pattern))):
            self._plan_json(path)
        for path in sorted(self.root.glob("runs/*/train.toml")):
            self._plan_settings(path)
        for pattern in ("runs/**/*.parquet", "comparisons/**/*.parquet", "datasets/*/targets/*.parquet"):
            for path in self.root.glob(pattern):
                self._plan_artifact(path)

    def _plan_json(self, path: Path) -> None:
        values = read_object(path)
        renamed = self._renamed(path.parent, values, values.get("inputs"))
        if renamed != values:
            text = json.dumps(renamed, indent=2, sort_keys=True) + "\n"
            target = self.changes.replace(self._moved(path))
            target.write_text(text, encoding="utf-8")
            _keep_time(path, target)

    def _plan_settings(self, path: Path) -> None:
        """Plan a configuration file in which options whose values are the name have the new one."""
        keys, old = "|".join(SETTINGS[self.part.kind]), re.escape(self.part.path.name)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, ValueError):  # a file of the user's own making; the run has its config.json
            return
        renamed = re.sub(
            rf"""(?m)^(\s*(?:{keys})\s*=\s*)(["']){old}\2""", rf"\g<1>\g<2>{self.new}\g<2>", text
        )
        if self.part.kind == RUN:
            renamed = re.sub(
                r"""(?m)^(\s*distill\s*=\s*)(["'])(.*?)\2""",
                lambda found: f"{found[1]}{found[2]}{self._renamed_list(found[3])}{found[2]}",
                renamed,
            )
        if renamed != text:
            target = self.changes.replace(self._moved(path))
            target.write_text(renamed, encoding="utf-8")
            _keep_time(path, target)

    def _plan_artifact(self, path: Path) -> None:
        provenance: Mapping[str, Any] | None = artifacts.provenance(path)
        if provenance is None:
            return
        moved = self._moved(path)
        config = self._renamed(path.parent, provenance["config"], None)
        renamed = self._renamed(path.parent, {**provenance, "config": config}, provenance["inputs"])
        if renamed == provenance:
            return
        with reading(path, "Parquet file", "Remove it, or make it again, before renaming."):
            table = pq.read_table(path, page_checksum_verification=True, partitioning=None)
        if path.is_relative_to(self.root / "comparisons"):
            if moved != path:
                self.changes.rename(path, moved)
            table = self._renamed_columns(table)
            renamed["sha256"] = artifacts.table_digest(table)
        target = self.changes.replace(moved)
        table = table.replace_schema_metadata({artifacts.PROVENANCE_KEY: json.dumps(renamed)})
        rows = pq.read_metadata(path).row_group(0).num_rows  # of a row group, which is read at a time
        pq.write_table(table, target, rows, compression="zstd", write_page_checksum=True)
        _keep_time(path, target)

    def _renamed(self, folder: Path, values: Mapping[str, Any], inputs: Any) -> dict[str, Any]:
        """Return a configuration or a provenance with the new name.

        Args:
            folder: folder to which the paths of the inputs are relative.
            values: JSON object.
            inputs: its inputs; None if it has none.
        """
        renamed = {
            key: self.new if key in KEYS[self.part.kind] and value == self.part.path.name else value
            for key, value in values.items()
        }
        for key in ORIGINS if self.part.kind == RUN else ():
            if isinstance(values.get(key), dict) and values[key].get("of") == self.part.path.name:
                renamed[key] = {**values[key], "of": self.new}
        if self.part.kind == RUN:
            train, teachers = values.get("train"), values.get("teachers")
            if isinstance(train, dict) and isinstance(train.get("distill"), str):
                renamed["train"] = {**train, "distill": self._renamed_list(train["distill"])}
            if isinstance(teachers, dict):
                renamed["teachers"] = {self._renamed_list(name): sha for name, sha in teachers.items()}
        if members := members_of(values):
            renamed["members"] = [self._member(folder, member) for member in members]
        if isinstance(inputs, dict):
            renamed["inputs"] = {name: self._source(folder, source) for name, source in inputs.items()}
        return renamed

    def _member(self, folder: Path, member: dict[str, Any]) -> dict[str, Any]:
        """Return a member of a committee with the new name."""
        config = member["config"]
        return {
            **self._renamed(folder, member, None),
            "config": self._renamed(folder, config, config.get("inputs")),
        }

    def _renamed_list(self, names: str) -> str:
        """Return names of runs, separated by commas, with the new name."""
        parts = (name.strip() for name in names.split(","))
        return ",".join(self.new if name == self.part.path.name else name for name in parts)

    def _source(self, folder: Path, source: Any) -> Any:
        """Return an input with its path after the renaming."""
        if not (isinstance(source, dict) and isinstance(source.get("path"), str)):
            return source
        path, new_folder = self._moved(_joined(folder, source["path"])), self._moved(folder)
        if _joined(new_folder, source["path"]) == path:
            return source
        return {**source, "path": os.path.relpath(path, new_folder)}

    def _renamed_columns(self, table: pa.Table) -> pa.Table:
        for key in KEYS[self.part.kind]:
            if key in table.column_names:
                names = [self.new if n == self.part.path.name else n for n in table[key].to_pylist()]
                table = table.set_column(table.column_names.index(key), key, pa.array(names, pa.string()))
        return table

    def _moved(self, path: Path) -> Path:
        """Return the absolute path of a file or folder after the renaming."""
        if not path.is_relative_to(self.root):
            return path
        old, words = self.part.path.name, path.relative_to(self.root).parts
        names = {name.format(old): name.format(self.new) for name in ("{}", ".{}.anew", "{}.parquet")}
        places: tuple[int, ...] = ()
        if words and words[0] == self.part.path.parent.name:
            places = (1,)
        elif words and words[0] == "comparisons" and self.part.kind == RUN:
            places = (2, 3)
        return self.root.joinpath(
            *(names.get(word, word) if n in places else word for n, word in enumerate(words))
        )


def _joined(folder: Path, path: str) -> Path:
    return Path(os.path.normpath(folder / path))


def _keep_time(path: Path, target: Path) -> None:
    """Give a file the time of modification of another one, by which the newest run is found."""
    status = path.stat()
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def _say_records(workspace: Workspace, part: Part, progress: Progress) -> None:
    """Report the records that keep the old name."""
    name, column = part.path.name, KEYS[part.kind][0]
    reports = []
    for report in all_parts(workspace, REPORT):
        with suppress(OSError, pa.ArrowException, KeyError):
            if name in pq.read_table(report.path / "results.parquet", columns=[column])[column].to_pylist():
                reports.append(report.path.name)
    if reports:
        progress.say(f"Reports are records and keep the name {name}: {', '.join(reports)}.")
    results = (read_object(path) for path in workspace.run_results.glob("*.json"))
    if part.kind == RUN and any(result.get("run") == name for result in results):
        progress.say(f"The grid that made {name} does not find it by its new name and would train it again.")
