"""The contract between stages: Parquet with a declared schema, provenance inside, written whole or not at all.

Only pyarrow and numpy are needed to read or write an artifact, so that training and evaluation run on a
machine that has neither polars nor faiss.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines import __version__, shapes
from pipelines.durable import atomic
from pipelines.errors import UserError, reading
from pipelines.processor import processor

PROVENANCE_KEY = b"maskgr"

# What each kind of artifact must hold. A column may be followed by more columns; these are required.
# `None` as a type means: any type (checked by whoever reads it).
SCHEMAS: dict[str, dict[str, pa.DataType | None]] = {
    "interactions": {"user_id": None, "item_id": None},
    "items": {"item": pa.int32(), "item_id": None, "text": pa.string()},
    "sequences": {"user": pa.int32(), "user_id": None, "items": pa.list_(pa.int32())},
    "embeddings": {"item": pa.int32(), "embedding": None},
    "sids": {"item": pa.int32(), "sid": None},
    "quality": {"level": pa.int32(), "measure": pa.string(), "value": pa.float64()},
    "history": {"step": pa.int64(), "measure": pa.string(), "value": pa.float64()},
    "ranks": {name: pa.int32() for name in ("user", "position", "target", "rank", "invalid", "duplicates")},
    "recommendations": {"user": pa.int32(), "items": pa.list_(pa.int32()), "scores": pa.list_(pa.float32())},
    "metrics": {
        "metric": pa.string(),
        "k": pa.int32(),
        "value": pa.float64(),
        "low": pa.float64(),
        "high": pa.float64(),
        "users": pa.int64(),
    },
    "comparison": {
        **dict.fromkeys(("evaluation", "baseline", "run", "metric"), pa.string()),
        "k": pa.int32(),
        **dict.fromkeys(("baseline_value", "value", "difference", "low", "high", "p"), pa.float64()),
        "users": pa.int64(),
    },
    "trials": {
        "trial": pa.int32(),
        "state": pa.string(),
        "recall": pa.float64(),
        "seconds": pa.float64(),
        "option": pa.string(),
        "value": pa.string(),
    },
    "grid": {  # followed by a column for each option that varies
        **dict.fromkeys(("recipe", "budget", "dataset", "system", "label", "model"), pa.string()),
        "seed": pa.int32(),
        **dict.fromkeys(("state", "reason", "metric"), pa.string()),
        **dict.fromkeys(("value", "low", "high"), pa.float64()),
        "users": pa.int64(),
        **dict.fromkeys(("train_seconds", "eval_seconds"), pa.float64()),
        **dict.fromkeys(("run", "evaluation", "description", "commit", "machine", "inputs"), pa.string()),
    },
    "curves": {
        **dict.fromkeys(("dataset", "system", "label", "run"), pa.string()),
        "seed": pa.int32(),
        "step": pa.int64(),
        **dict.fromkeys(("minutes", "recall@10"), pa.float64()),
        **dict.fromkeys(("commit", "machine"), pa.string()),
    },
    "diagnosis": {
        "measure": pa.string(),
        "order": pa.string(),
        "evaluations": pa.int32(),
        "digit": pa.int32(),
        "revealed": pa.int32(),
        "value": pa.float64(),
        "users": pa.int64(),
    },
}
NULLABLE = {
    *(("metrics", column) for column in ("k", "low", "high")),
    *(("trials", column) for column in ("recall", "seconds")),
    *(("diagnosis", column) for column in ("order", "evaluations", "digit", "revealed")),
    *(
        ("grid", column)
        for column in ("reason", "value", "low", "high", "users", "train_seconds", "eval_seconds")
    ),
    *(("grid", column) for column in ("run", "evaluation", "description", "commit", "machine", "inputs")),
    ("ranks", "rank"),
}


class Source(TypedDict):
    """What an artifact was made from, and the sha256 of its content."""

    path: str
    sha256: str


class Provenance(TypedDict):
    """What an artifact says of itself."""

    stage: str
    version: str
    commit: str | None
    config: dict[str, Any]
    inputs: dict[str, Source]
    sha256: str
    seconds: float | None
    written: str
    machine: str


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read_json(path: Path, shape: Any = dict, advice: str = "Remove it and make it again.") -> Any:
    """Read a JSON file that maskgr wrote.

    Args:
        shape: what it must hold, see `shapes`.
        advice: what to do where it does not.

    Raises:
        UserError: the file is missing, is not JSON, or holds something else.
    """
    try:
        return shapes.parse(path.read_bytes(), shape)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist.") from None
    except shapes.Misfit as error:
        raise UserError(f"{path}: {error}. {advice}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}). {advice}") from None


def write(
    path: Path,
    kind: str,
    table: pa.Table,
    *,
    config: Mapping[str, Any],
    inputs: Mapping[str, Path] | None = None,
    started: float | None = None,
) -> Path:
    """Write one artifact with its provenance, atomically.

    Args:
        path: where it will lie.
        kind: a key of `SCHEMAS`; the table is checked against it before anything is written.
        table: the data.
        config: the full configuration of the stage that made it, seed included; JSON values only.
        inputs: name → path of each artifact it was made from; their content hashes are recorded.
        started: `time.monotonic()` at the start of the work, for the wall seconds.

    Raises:
        UserError: the table breaks the schema of `kind` (names file, column and row).
    """
    _validate(path, kind, table)
    provenance = {
        "stage": kind,
        "version": __version__,
        "commit": commit(),
        "config": json_values(config),
        "inputs": {
            n: {"path": os.path.relpath(p, path.parent), "sha256": digest(p)}
            for n, p in (inputs or {}).items()
        },
        "sha256": _table_digest(table),
        "seconds": None if started is None else round(time.monotonic() - started, 3),
        "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": machine(),
    }
    table = table.replace_schema_metadata({PROVENANCE_KEY: json.dumps(provenance)})
    with atomic(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)
    return path


def read(path: Path, kind: str, *, hint: str = "", columns: list[str] | None = None) -> pa.Table:
    """Read and validate one artifact.

    Args:
        hint: what to do when the file is missing, e.g. "Run `maskgr embed` first."
        columns: read only these; only these are validated.

    Raises:
        UserError: missing, unreadable, of the wrong schema, or with values out of range.
    """
    if not os.path.exists(path):  # noqa: PTH110 - false also for a path that no file can have
        raise UserError(f"{path} does not exist. {hint}".rstrip())
    with reading(path, "Parquet file", f"Remove it and make it again. {hint}".rstrip()):
        table = pq.read_table(path, columns=columns, page_checksum_verification=True, partitioning=None)
        table.validate(full=True)
    _validate(path, kind, table, columns)
    return table


def provenance(path: Path) -> Provenance | None:
    """The provenance inside an artifact; None where the file is missing, unreadable or not maskgr's."""
    try:
        return shapes.parse((pq.read_schema(path).metadata or {})[PROVENANCE_KEY], Provenance)
    except (OSError, KeyError, ValueError, pa.ArrowException):
        return None


def digest(path: Path) -> str:
    """sha256 of an artifact's content (without its provenance), or of the bytes of any other file."""
    found = provenance(path) if path.suffix == ".parquet" else None
    if found:
        return found["sha256"]
    sha = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()


def holds(path: Path, sha256: str) -> bool:
    """Whether there is a file of that content."""
    try:
        return path.is_file() and digest(path) == sha256
    except OSError:  # a path that no file can have, or that may not be read
        return False


def stale(
    path: Path, config: Mapping[str, Any] | None = None, inputs: Mapping[str, Path] | None = None
) -> str | None:
    """Why an artifact must be made again, in words; None where it is up to date.

    Args:
        config: the configuration it should have been made with; None accepts any.
        inputs: the artifacts it should have been made from; None takes those it names itself.
    """
    found = provenance(path)
    if found is None:
        return f"{path.name} is not readable" if os.path.exists(path) else f"{path.name} does not exist"  # noqa: PTH110
    if config is not None and found["config"] != json_values(config):
        changed = sorted(
            k
            for k in {*found["config"], *json_values(config)}
            if found["config"].get(k) != json_values(config).get(k)
        )
        return f"its configuration changed ({', '.join(changed)})"
    if inputs is None:
        inputs = {name: path.parent / entry["path"] for name, entry in found["inputs"].items()}
    for name, source in inputs.items():
        recorded = found["inputs"].get(name)
        if recorded is None or not holds(source, recorded["sha256"]):
            return f"its {name} changed"
    return None


def matrix(table: pa.Table, column: str, path: Path) -> np.ndarray:
    """A fixed-size-list column as a [rows, width] array.

    Raises:
        UserError: the column is not a fixed-size list, or holds nulls.
    """
    kind = table.schema.field(column).type
    if not pa.types.is_fixed_size_list(kind):
        raise UserError(
            f"{path}: column {column} is {kind}, expected a fixed-size list. Make the file again."
        )
    flat = table.column(column).combine_chunks()
    values = flat.flatten()
    if flat.null_count or values.null_count:
        raise UserError(f"{path}: column {column} holds missing values. Make the file again.")
    return values.to_numpy(zero_copy_only=False).reshape(len(table), kind.list_size)


def fixed_size_list(values: np.ndarray) -> pa.FixedSizeListArray:
    """A [rows, width] array as a fixed-size-list column."""
    return pa.FixedSizeListArray.from_arrays(
        pa.array(np.ascontiguousarray(values).reshape(-1)), values.shape[1]
    )


def _validate(path: Path, kind: str, table: pa.Table, columns: list[str] | None = None) -> None:
    for name, expected in SCHEMAS[kind].items():
        if columns is not None and name not in columns:
            continue
        if name not in table.column_names:
            raise UserError(
                f"{path} has no column {name!r} (it has {', '.join(table.column_names)}); it is not a {kind} file."
            )
        found = table.schema.field(name).type
        if expected is not None and found != expected:
            raise UserError(
                f"{path}: column {name} is {found}, expected {expected}; it is not a {kind} file of this version."
            )
        if (kind, name) not in NULLABLE and table.column(name).null_count:
            row = pc.index(pc.is_null(table.column(name)), True).as_py()
            raise UserError(f"{path}: column {name} has no value in row {row}. Make the file again.")
    if not len(table):
        raise UserError(f"{path} holds no rows; there is nothing to work on.")
    for name in ("item", "user"):  # dense numbering: row r holds number r
        numbered = kind in {"items", "sequences", "embeddings", "sids"} and name in table.column_names
        if numbered and not np.array_equal(table.column(name).to_numpy(), np.arange(len(table))):
            row = int(np.argmax(table.column(name).to_numpy() != np.arange(len(table))))
            raise UserError(
                f"{path}: column {name} must count 0, 1, 2, …; row {row} holds {table.column(name)[row].as_py()}. Make the file again."
            )


def json_values(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration as JSON would give it back."""
    return json.loads(json.dumps(dict(config), default=str))


def _table_digest(table: pa.Table) -> str:
    sink = hashlib.sha256()
    bare = table.replace_schema_metadata(None).combine_chunks()

    class _Sink:
        closed = False

        def write(self, block: bytes) -> int:
            sink.update(block)
            return len(block)

        def flush(self) -> None: ...
        def close(self) -> None: ...

    with pa.ipc.new_stream(pa.PythonFile(_Sink(), mode="w"), bare.schema) as writer:
        writer.write_table(bare)
    return sink.hexdigest()


@functools.cache
def machine() -> str:
    """This machine in a few words: system, processors, memory, GPUs (where torch is already loaded)."""
    parts = [platform.system(), platform.machine(), f"{os.cpu_count()} cores ({processor()})"]
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        parts.append(f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB")
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        parts.append(f"{torch.cuda.device_count()} × {torch.cuda.get_device_name(0)}")
    return ", ".join(parts)


@functools.cache
def commit() -> str | None:
    """The git commit of the code that runs, with "+" where files differ from it; None outside a checkout."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    try:
        run = functools.partial(
            subprocess.run, cwd=root, capture_output=True, text=True, timeout=5, check=True
        )
        head = run(["git", "rev-parse", "--short=12", "HEAD"]).stdout.strip()
        return head + ("+" if run(["git", "status", "--porcelain", "-uno"]).stdout.strip() else "")
    except (OSError, subprocess.SubprocessError):
        return None
