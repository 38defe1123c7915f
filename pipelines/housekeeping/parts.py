"""Parts of a workspace: their names, their files, and the parts that they were made from.

The name of a part is its path in the workspace as in `workspace.LAYOUT`, without a suffix: "runs/first",
"datasets/toy/sids/lsa-4x256".
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines import artifacts
from pipelines.errors import UserError
from pipelines.names import checked_name
from pipelines.options import quoted
from pipelines.workspace import Workspace


@dataclass(frozen=True)
class Kind:
    """Kind of parts.

    Attributes:
        name: name of the kind.
        pattern: parts of the path; a part in capitals stands for a name.
        suffix: suffix of the file; empty for a folder.
        companions: files and folders beside it that go with it; {} stands for its name.
    """

    name: str
    pattern: str
    suffix: str = ""
    companions: tuple[str, ...] = ()

    def matches(self, name: str) -> bool:
        """Return True if a part of that name is of this kind."""
        words, pattern = name.split("/"), self.pattern.split("/")
        return len(words) == len(pattern) and all(
            place.isupper() or place == word for word, place in zip(words, pattern, strict=True)
        )


KINDS = (
    Kind("data set", "datasets/NAME"),
    Kind("embeddings", "datasets/NAME/embeddings/E", ".parquet", ("{}.encoder.parquet", ".{}.parts")),
    Kind(
        "semantic IDs",
        "datasets/NAME/sids/S",
        ".parquet",
        ("{}.quality.parquet", "{}.codebooks.parquet"),
    ),
    Kind("external lists", "datasets/NAME/external/L"),
    Kind("run", "runs/RUN", companions=(".{}.anew",)),
    Kind("soft targets", "datasets/NAME/targets/T", ".parquet", (".{}.parts",)),
    Kind("evaluation", "runs/RUN/eval/DECODING"),
    Kind("comparison", "comparisons/DECODING/A/B", ".parquet"),
    Kind("study", "studies/STUDY"),
    Kind("report", "reports/RECIPE-BUDGET"),
    Kind("download", "downloads/NAME"),
)
DATASET, EMBEDDINGS, SIDS, EXTERNAL, RUN, TARGETS, EVALUATION, COMPARISON, STUDY, REPORT, DOWNLOAD = KINDS


@dataclass(frozen=True)
class Part:
    """One part of a workspace.

    Attributes:
        name: path in the workspace, without a suffix.
        kind: kind of the part.
        path: path of its file or folder.
    """

    name: str
    kind: Kind
    path: Path

    @property
    def paths(self) -> list[Path]:
        """Existing files and folders of the part, companions included."""
        name = self.name.rpartition("/")[2]
        paths = [self.path, *(self.path.with_name(c.format(name)) for c in self.kind.companions)]
        return [path for path in paths if path.exists()]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(size_of(path) for path in self.paths)

    def is_in(self, other: Part) -> bool:
        """Return True if this part lies inside the other."""
        return self.name.startswith(f"{other.name}/")


def find_part(workspace: Workspace, name: str) -> Part:
    """Return the part of a name.

    Raises:
        UserError: the name is not that of a part, or there is no such part.
    """
    trimmed = name.removesuffix("/")
    kind = next((kind for kind in KINDS if kind.matches(trimmed)), None)
    if kind is None:
        patterns = ", ".join(kind.pattern for kind in KINDS)
        raise UserError(f"{quoted(name)} names no part of a workspace. Write one of {patterns}.")
    for word in trimmed.split("/"):
        checked_name(word)
    part = Part(trimmed, kind, workspace.root / f"{trimmed}{kind.suffix}")
    if not part.path.exists():
        folder = part.path.parent
        names = ", ".join(sorted(_names(folder, kind))) or "none"
        last = quoted(trimmed.rpartition("/")[2])
        raise UserError(f"No {kind.name} {last} in {folder} (it holds {names}).")
    return part


def all_parts(workspace: Workspace, *kinds: Kind) -> list[Part]:
    """Return all parts of some kinds, sorted by kind and name."""
    parts = []
    for kind in kinds:
        *parents, _ = ("[!.]*" if place.isupper() else place for place in kind.pattern.split("/"))
        for folder in sorted(workspace.root.glob("/".join(parents))):
            prefix = folder.relative_to(workspace.root).as_posix()
            parts += [
                Part(f"{prefix}/{name}", kind, folder / f"{name}{kind.suffix}")
                for name in sorted(_names(folder, kind))
            ]
    return parts


def sources(workspace: Workspace, part: Part) -> set[str]:
    """Return the names of the parts that a part was made from, as far as it can be read.

    A part inside another one, such as an evaluation inside a run, need not name it.
    """
    if part.kind in (RUN, STUDY):
        files = {RUN: ("config.json", part.path.with_name(f".{part.path.name}.anew") / "config.json")}
        configs = [read_object(part.path / file) for file in files.get(part.kind, ("study.json",))]
        return {name for config in configs for name in _named_sources(workspace, part.path, config)}
    provenance = artifacts.provenance(part.path)
    return set(_parts_of_inputs(workspace, part.path.parent, provenance["inputs"] if provenance else {}))


def read_object(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file that holds an object; empty if it cannot be read."""
    try:
        content: dict[str, Any] = artifacts.read_json(path)
    except UserError:
        return {}
    return content


def members_of(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the members that a committee's config.json names, as far as they can be read."""
    members = config.get("members")
    listed = members if isinstance(members, list) else []
    return [each for each in listed if isinstance(each, dict) and isinstance(each.get("config"), dict)]


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files below a folder; files that disappear meanwhile are 0."""
    total = 0
    files = [str(path)]
    if path.is_dir() and not path.is_symlink():
        files = [f"{folder}/{name}" for folder, _, names in os.walk(path) for name in names]
    for file in files:
        with suppress(OSError):
            total += os.lstat(file).st_size
    return total


def _names(folder: Path, kind: Kind) -> set[str]:
    """Return the names of the parts of a kind in a folder."""
    companions = tuple(companion.removeprefix("{}") for companion in kind.companions)
    paths = (path for path in folder.glob(f"[!.]*{kind.suffix}") if kind.suffix or path.is_dir())
    return {path.name.removesuffix(kind.suffix) for path in paths if not path.name.endswith(companions)}


def _named_sources(workspace: Workspace, folder: Path, config: Mapping[str, Any]) -> Iterator[str]:
    """Yield the parts that a run's config.json or a study's study.json names."""
    dataset, sids = config.get("dataset"), config.get("sids")
    if isinstance(dataset, str):
        yield f"datasets/{dataset}"
        if isinstance(sids, str):
            yield f"datasets/{dataset}/sids/{sids}"
    yield from _parts_of_inputs(workspace, folder, config.get("inputs"))
    for member in members_of(config):
        yield from _named_sources(workspace, folder, member["config"])


def _parts_of_inputs(workspace: Workspace, folder: Path, inputs: Any) -> Iterator[str]:
    """Yield the innermost parts that inputs lie in.

    Args:
        folder: folder to which the paths of the inputs are relative.
        inputs: inputs as an artifact or a run records them.
    """
    for source in inputs.values() if isinstance(inputs, dict) else ():
        if isinstance(source, dict) and isinstance(source.get("path"), str):
            path = Path(os.path.relpath(folder / source["path"], workspace.root)).with_suffix("")
            names = ["/".join(path.parts[:length]) for length in range(len(path.parts), 0, -1)]
            yield from [name for name in names if any(kind.matches(name) for kind in KINDS)][:1]
