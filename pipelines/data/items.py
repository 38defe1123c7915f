"""Identity of the items that an artifact was made from, by which a grown catalogue is recognized."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipelines import artifacts
from pipelines.errors import UserError
from pipelines.progress import Progress
from pipelines.workspace import Dataset

COLUMNS = ["item", "item_id", "text"]
ROWS = 1 << 16  # values that become JSON at a time
KEY = "items"  # of the identity in a recorded configuration


def read_items(dataset: Dataset) -> pa.Table:
    """Read item, item_id and text of all items.

    Raises:
        UserError: the file is missing or unreadable.
    """
    hint = f"Run `maskgr download {dataset.name}` or `maskgr import {dataset.name} …` first."
    return artifacts.read(dataset.items, "items", hint=hint, columns=COLUMNS)


def identity(items: pa.Table, fitted: int | None = None) -> dict[str, Any]:
    """Return the identity of items: sha256 of their ids and of their texts, and the number of items that the
    encoder or the codebooks were fitted on.

    Args:
        items: table with item_id and text.
        fitted: number of these items, the first ones; None for all.
    """
    sha256 = {"ids": _sha256(items["item_id"]), "texts": _sha256(items["text"])}
    return {**sha256, "fitted": fitted or len(items)}


def _sha256(column: pa.ChunkedArray) -> str:
    """Return the sha256 of the values as one JSON list."""
    sha = hashlib.sha256(b"[")
    for start in range(0, len(column), ROWS):
        text = json.dumps(column.slice(start, ROWS).to_pylist(), default=str)[1:-1]
        sha.update((", " * bool(start) + text).encode())
    sha.update(b"]")
    return sha.hexdigest()


def kept_identity(recorded: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the entry of a recorded configuration that holds the identity, or nothing.

    It is not a setting: staleness compares configurations with the recorded identity.
    """
    return {KEY: recorded[KEY]} if recorded and isinstance(recorded.get(KEY), dict) else {}


def require_grown(
    path: Path, count: int, items: pa.Table, again: str, progress: Progress
) -> artifacts.Provenance:
    """Check that the first items of a catalogue are those that an artifact was made from, and return its
    provenance. A message reports other texts of these items, which the artifact does not follow.

    Args:
        path: path of the artifact.
        count: number of items of the artifact.
        items: item, item_id and text of the catalogue.
        again: command that makes the artifact again.

    Raises:
        UserError: the artifact does not name its items, or the catalogue begins with others.
    """
    provenance = artifacts.provenance(path)
    recorded = kept_identity(provenance["config"] if provenance else None).get(KEY)
    if provenance is None or recorded is None:
        raise UserError(f"{path} does not say from which items it was made. Run `{again}`.")
    first = identity(items.slice(0, count))
    if len(items) < count or first["ids"] != recorded.get("ids"):
        raise UserError(f"{path} was made from other items than the catalogue begins with. Run `{again}`.")
    if first["texts"] != recorded.get("texts"):
        progress.say(
            f"Texts of old items changed; {path.name} keeps what it has of them (`{again}` does not)."
        )
    return provenance


def fitted_count(provenance: artifacts.Provenance, count: int) -> int:
    """Return the number of items that an encoder or codebooks were fitted on, the first ones of `count`."""
    fitted = provenance["config"].get(KEY, {}).get("fitted")
    return fitted if isinstance(fitted, int) and 0 < fitted <= count else count


def keep_age(path: Path, written: Path) -> None:
    """Give a file the age of the file that it will replace. The newest embeddings are found by their age."""
    status = path.stat()
    os.utime(written, ns=(status.st_atime_ns, status.st_mtime_ns))
