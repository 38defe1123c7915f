"""Artifacts: Parquet files with a declared schema and their provenance, written atomically.

All stages exchange data through artifacts. Reading or writing an artifact needs only pyarrow and numpy.
Training and evaluation therefore run on a machine that has neither polars nor faiss.
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
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import __version__, typed_json
from pipelines.durable import atomic as atomic
from pipelines.errors import UserError, reading
from pipelines.formats import Source
from pipelines.processor import processor
from pipelines.schemas import SCHEMAS as SCHEMAS
from pipelines.schemas import validate

PROVENANCE_KEY = b"maskgr"
GROUPS = {"sequences": 100_000}  # kind → rows of a row group of Parquet, which is read at a time
GROUP = 1 << 20  # the same of all other kinds, and rows that a digest covers at a time, a multiple of 8
BLOCK_BYTES = 1 << 20  # bytes of a file that are hashed at a time
GIT_SECONDS = 5  # time limit of a git command


class _Account(TypedDict, total=False):
    """Part of the provenance that few artifacts have."""

    account: dict[str, Any]


class Provenance(_Account):
    """Provenance that is stored inside an artifact, see `write`."""

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
    """Write a value as indented JSON, atomically.

    Raises:
        UserError: the file cannot be written.
    """
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read_json(path: Path, hint: Any = dict, advice: str = "Remove it and make it again.") -> Any:
    """Read a JSON file that maskgr wrote.

    Args:
        hint: type hint that the content must match, see `typed_json`.
        advice: instruction for the user in the messages about an unusable file.

    Raises:
        UserError: the file is missing, is not JSON, or does not match the hint.
    """
    try:
        return typed_json.parse(path.read_bytes(), hint)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist.") from None
    except typed_json.Mismatch as error:
        raise UserError(f"{path}: {error}. {advice}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}). {advice}") from None


def write(
    path: Path,
    kind: str,
    table: pa.Table | Callable[[], Iterable[pa.Table]],
    *,
    config: Mapping[str, Any],
    inputs: Mapping[str, Path] | None = None,
    recorded: Mapping[str, Source] | None = None,
    started: float | None = None,
    account: Mapping[str, Any] | None = None,
) -> Path:
    """Write one artifact with its provenance, atomically.

    Args:
        path: path of the artifact.
        kind: key of `SCHEMAS`. The table is checked against this schema before anything is written.
        table: data of the artifact; or, of one that is too large for the memory, a function that returns its
            parts in order, tables of one schema. It is called twice: to check and to write.
        config: full configuration of the stage, including the seed; JSON values only.
        inputs: name → path of each file that the artifact was made from. The provenance records their content
            hashes.
        recorded: further inputs as a provenance holds them, for an artifact that is written again.
        started: `time.monotonic()` at the start of the work, from which the elapsed seconds are computed.
        account: account of how the data was made; JSON values only.

    Returns:
        `path`.

    Raises:
        UserError: the table does not match the schema of `kind` (the message names file, column and row), or
            the file cannot be written.
    """
    parts = (lambda: [table]) if isinstance(table, pa.Table) else table
    made = provenance_of(
        path,
        kind,
        _digest(_checked(path, kind, parts())),
        config=config,
        inputs=inputs,
        recorded=recorded,
        started=started,
        account=account,
    )
    _store(path, parts(), made)
    return path


def provenance_of(
    path: Path,
    kind: str,
    sha256: str,
    *,
    config: Mapping[str, Any],
    inputs: Mapping[str, Path] | None = None,
    recorded: Mapping[str, Source] | None = None,
    started: float | None = None,
    account: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the provenance of an artifact that is about to be written, as JSON values.

    Args:
        sha256: digest of its content.
        path, kind, config, inputs, recorded, started, account: see `write`.
    """
    return {
        "stage": kind,
        "version": __version__,
        "commit": commit(),
        "config": json_values(config),
        "inputs": dict(recorded or {})
        | {
            name: {"path": os.path.relpath(source, path.parent), "sha256": digest(source)}
            for name, source in (inputs or {}).items()
        },
        "sha256": sha256,
        "seconds": None if started is None else round(time.monotonic() - started, 3),
        "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": machine(),
    } | ({"account": json_values(account)} if account is not None else {})


def _checked(path: Path, kind: str, parts: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Yield the parts of an artifact, which are checked against the schema."""
    rows, part = 0, None
    for part in parts:
        if len(part):
            validate(path, kind, part, first=rows)
        rows += len(part)
        yield part
    if part is not None and not rows:
        validate(path, kind, part)


def _store(path: Path, parts: Iterable[pa.Table], provenance: Mapping[str, Any]) -> None:
    metadata = {PROVENANCE_KEY: json.dumps(provenance)}
    rows = GROUPS.get(provenance["stage"], GROUP)
    with atomic(path) as temporary, ExitStack() as stack:
        writer = None
        for block in _blocks(parts, rows):
            block = block.replace_schema_metadata(metadata)
            if writer is None:
                writer = stack.enter_context(
                    pq.ParquetWriter(temporary, block.schema, compression="zstd", write_page_checksum=True)
                )
            writer.write_table(block, rows)


def _blocks(parts: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """Yield the rows of tables as tables of a number of rows, except the last one."""
    held: list[pa.Table] = []
    missing = rows
    for part in parts:
        start = 0
        while start < len(part) or not (start or held):  # an empty table is one block
            held.append(part.slice(start, missing))
            start, missing = start + missing, missing - len(held[-1])
            if not missing:
                yield pa.concat_tables(held)
                held, missing = [], rows
    if held:
        yield pa.concat_tables(held)


def write_again(path: Path, source: Path, recorded: Mapping[str, Source], *, bare: bool = False) -> Path:
    """Write the content of an artifact with other recorded inputs. Its digest stays the same.

    Args:
        path: path of the new file.
        source: path of the artifact, which has a provenance.
        recorded: inputs that replace the recorded inputs of the same names.
        bare: if true, the new file records these inputs alone, and neither the account of an import nor the
            configuration beside it.

    Returns:
        `path`.

    Raises:
        UserError: the artifact cannot be read, or the file cannot be written.
    """
    with reading(source, "Parquet file", "Remove it and make it again."):
        table = pq.read_table(source, page_checksum_verification=True, partitioning=None)
        old = provenance(source)
        if old is None:
            raise ValueError("it has no provenance")
    new = {**old, "inputs": {**({} if bare else old["inputs"]), **recorded}}
    if bare and new.pop("account", None) is not None:
        new["config"] = {}
    _store(path, [table], new)
    return path


def read(path: Path, kind: str, *, hint: str = "", columns: list[str] | None = None) -> pa.Table:
    """Read one artifact and check it against its schema.

    Args:
        kind: key of `SCHEMAS`.
        hint: instruction for the user if the file is missing, e.g. "Run `maskgr embed` first."
        columns: names of the columns to read and check; None reads all.

    Raises:
        UserError: the file is missing or unreadable, or does not match the schema of `kind`.
    """
    if not os.path.exists(path):  # noqa: PTH110 - unlike Path.exists, false for a path that is no valid file name
        raise UserError(f"{path} does not exist. {hint}".rstrip())
    if kind == "sequences" and (recorded := provenance(path)) and recorded["stage"] == "sequence_files":
        raise UserError(
            f"{path} lists the files of another program (`maskgr import --sequences`), which this command "
            "does not read. Import them with --interactions in place of --sequences, which copies them."
        )
    with reading(path, "Parquet file", f"Remove it and make it again. {hint}".rstrip()):
        table = pq.read_table(path, columns=columns, page_checksum_verification=True, partitioning=None)
        table.validate(full=True)
    validate(path, kind, table, columns)
    return table


def count(path: Path, *, hint: str = "") -> int:
    """Return the number of rows of a Parquet file.

    Args:
        hint: instruction for the user if the file cannot be read.

    Raises:
        UserError: the file is missing or unreadable.
    """
    with reading(path, "Parquet file", f"Remove it and make it again. {hint}".rstrip()):
        return int(pq.read_metadata(path).num_rows)


def provenance(path: Path) -> Provenance | None:
    """Return the provenance inside an artifact.

    Returns:
        None if the file is missing, unreadable or not written by maskgr.
    """
    try:
        metadata = pq.read_metadata(path).metadata or {}
        result: Provenance = typed_json.parse(metadata[PROVENANCE_KEY], Provenance)
        return result
    except (OSError, KeyError, ValueError, pa.ArrowException):
        return None


def digest(path: Path) -> str:
    """Return the sha256 of an artifact's content without its provenance, or of all bytes of another file."""
    recorded = provenance(path) if path.suffix == ".parquet" else None
    return recorded["sha256"] if recorded else file_digest(path)


def file_digest(path: Path) -> str:
    """Return the sha256 of all bytes of a file."""
    sha = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK_BYTES):
            sha.update(block)
    return sha.hexdigest()


def has_digest(path: Path, sha256: str) -> bool:
    """Return True if the file exists and its `digest` is `sha256`."""
    try:
        return path.is_file() and digest(path) == sha256
    except OSError:  # no valid file name, or no permission to read
        return False


def stale(
    path: Path, config: Mapping[str, Any] | None = None, inputs: Mapping[str, Path] | None = None
) -> str | None:
    """Return the reason why an artifact must be made again, or None if it is up to date.

    Args:
        config: configuration that the artifact should have been made with; None accepts any.
        inputs: files that the artifact should have been made from; None takes those that its provenance
            names.
    """
    recorded = provenance(path)
    if recorded is None:
        exists = os.path.exists(path)  # noqa: PTH110 - unlike Path.exists, false for a path that is no valid file name
        return f"{path.name} is not readable" if exists else f"{path.name} does not exist"
    if config is not None and recorded["config"] != json_values(config):
        changed = _changed_settings(recorded["config"], json_values(config))
        return f"its configuration changed ({', '.join(changed)})"
    if inputs is None:
        inputs = {name: path.parent / source["path"] for name, source in recorded["inputs"].items()}
    for name, input_path in inputs.items():
        source = recorded["inputs"].get(name)
        if source is None or not has_digest(input_path, source["sha256"]):
            return f"its {name} changed"
    return None


def _changed_settings(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return the sorted names of the settings that differ; a missing setting equals None."""
    return sorted(name for name in {*old, *new} if old.get(name) != new.get(name))


def matrix(table: pa.Table, column: str, path: Path) -> np.ndarray:
    """Return a column of fixed-size lists as an array [rows, width].

    Args:
        path: path of the table's file, for messages.

    Raises:
        UserError: the column does not hold fixed-size lists, or values are missing.
    """
    column_type = table.schema.field(column).type
    if not pa.types.is_fixed_size_list(column_type):
        raise UserError(
            f"{path}: column {column} is {column_type}, expected a fixed-size list. Make the file again."
        )
    flat = table.column(column).combine_chunks()
    values = flat.flatten()  # [rows · width]
    if flat.null_count or values.null_count:
        raise UserError(f"{path}: column {column} holds missing values. Make the file again.")
    return values.to_numpy(zero_copy_only=False).reshape(len(table), column_type.list_size)  # [rows, width]


def fixed_size_list(values: np.ndarray) -> pa.FixedSizeListArray:
    """Return an array [rows, width] as a column of fixed-size lists."""
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))  # [rows · width]
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def json_values(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration as it looks after being written to JSON and read back."""
    result: dict[str, Any] = json.loads(json.dumps(dict(config), default=str))
    return result


def table_digest(table: pa.Table) -> str:
    """Return the sha256 of a table's schema and values, without metadata. It is the `digest` of an artifact
    that holds the table.
    """
    return _digest([table])


def _digest(parts: Iterable[pa.Table]) -> str:
    """Return the sha256 of a table that comes in parts; it does not depend on how the table is cut."""
    sha = hashlib.sha256()

    class _Sink:
        closed = False

        def write(self, block: bytes) -> int:
            sha.update(block)
            return len(block)

        def flush(self) -> None: ...
        def close(self) -> None: ...

    with ExitStack() as stack:
        writer = None
        for block in _blocks(parts, GROUP):
            bare = block.replace_schema_metadata(None).combine_chunks()
            if writer is not None or len(block) == GROUP:
                bare = bare.take(pa.array(np.arange(len(block))))  # the bytes of a slice depend on its source
            if writer is None:
                sink = pa.PythonFile(_Sink(), mode="w")
                writer = stack.enter_context(pa.ipc.new_stream(sink, bare.schema))
            writer.write_table(bare)
    return sha.hexdigest()


@functools.cache
def machine() -> str:
    """Return a short description of this machine: system, processors, memory and GPUs.

    GPUs are named only if torch is already loaded.
    """
    parts = [platform.system(), platform.machine(), f"{os.cpu_count()} cores ({processor()})"]
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")  # bytes
        parts.append(f"{memory / 2**30:.0f} GiB")
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        parts.append(f"{torch.cuda.device_count()} × {torch.cuda.get_device_name(0)}")
    return ", ".join(parts)


@functools.cache
def commit() -> str | None:
    """Return the git commit of the running code, or None outside a checkout.

    "+" at the end means that tracked files differ from the commit.
    """
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    try:
        head = _git(root, "rev-parse", "--short=12", "HEAD")
        return head + ("+" if _git(root, "status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=root, capture_output=True, text=True, timeout=GIT_SECONDS, check=True
    )
    return done.stdout.strip()
