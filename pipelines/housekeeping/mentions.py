"""Places that name users besides the artifacts: accounts of imports, and files of other programs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines import artifacts
from pipelines.workspace import LAYOUT, Dataset, Workspace

OVERLAP = 4096  # bytes of a block that are searched again with the next one; longer than any id
BLOCK = 1 << 22  # bytes of a file that are searched at once
ITEMS = re.compile(r"items( \d+)?")  # name of an input that has no users


def pattern_of(users: Sequence[str]) -> re.Pattern[str]:
    """Return the pattern of ids that stand alone, not as a part of a longer word."""
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, users))})(?!\w)")


def without_ids(account: dict[str, Any], users: Sequence[str]) -> dict[str, Any]:
    """Return the account of an import without examples of users, and without notes that name one of some
    users.
    """
    pattern, cleaned = pattern_of(users), dict(account)
    if "columns" in cleaned:
        cleaned["columns"] = [
            {**column, "values": []} if column.get("role") == "users" else column
            for column in cleaned["columns"]
        ]
    if "dropped" in cleaned:
        cleaned["dropped"] = [
            {**drop, "first": ""} if pattern.search(str(drop.get("first"))) else drop
            for drop in cleaned["dropped"]
        ]
    if "notes" in cleaned:
        cleaned["notes"] = [note for note in cleaned["notes"] if not pattern.search(str(note))]
    return cleaned


def files_with(workspace: Workspace, dataset: Dataset, users: Sequence[str]) -> list[Path]:
    """Return the files that have or may have users still: those that the data set and external lists were
    made from, and files of the workspace that maskgr does not manage and that name a user, such as exports.
    """
    found = dict.fromkeys(_raw_files(dataset))
    managed = {pattern.split("/")[0] for pattern in LAYOUT}
    others = (
        path
        for top in sorted(workspace.root.iterdir())
        if top.name not in managed and not top.name.startswith(".")
        for path in ([top] if top.is_file() else sorted(top.rglob("*")))
    )
    found |= dict.fromkeys(path for path in others if path.is_file() and _mentions(path, users))
    return [*found]


def _raw_files(dataset: Dataset) -> Iterator[Path]:
    """Yield the files that interactions and external lists were made from, as far as they exist."""
    for path in (dataset.interactions, *(folder / "metrics.parquet" for folder in dataset.all_external)):
        provenance = artifacts.provenance(path)
        inputs = provenance["inputs"] if provenance else {}
        for name, source in inputs.items():
            file = Path(path.parent / source["path"]).resolve()
            is_raw = path == dataset.interactions or name == "recommendations"
            with suppress(OSError):
                if is_raw and not ITEMS.fullmatch(name) and file.is_file():
                    yield file


def _mentions(path: Path, users: Sequence[str]) -> bool:
    """Return True if a file names a user: a Parquet file in a column of texts, a text file anywhere. Other
    files, which have NUL bytes, count as numbers.
    """
    with suppress(OSError, pa.ArrowException):
        if path.suffix == ".parquet":
            return _has_value(path, users)
        pattern = re.compile(pattern_of(users).pattern.encode())
        with open(path, "rb") as file:
            rest = b""
            while (block := file.read(BLOCK)) and b"\0" not in block:
                if pattern.search(rest + block):
                    return True
                rest = block[-OVERLAP:]
    return False


def _has_value(path: Path, users: Sequence[str]) -> bool:
    wanted = pa.array(users, pa.string())
    for batch in pq.ParquetFile(path).iter_batches():
        for column in batch.columns:
            is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
            if is_text and pc.any(pc.is_in(column.cast(pa.string()), wanted)).as_py():
                return True
    return False
