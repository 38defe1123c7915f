"""Schemas of all kinds of artifacts, and the check of a table against its schema."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.errors import UserError

# Kind of artifact → required columns with their types. A table may have additional columns.
# None stands for any type: the code that reads the column checks its type.
SCHEMAS: dict[str, dict[str, pa.DataType | None]] = {
    "interactions": {"user_id": None, "item_id": None},
    "items": {"item": pa.int32(), "item_id": None, "text": pa.string()},
    "sequences": {"user": pa.int32(), "user_id": None, "items": pa.list_(pa.int32())},
    "sequence_files": {
        "file": pa.string(),
        **dict.fromkeys(("bytes", "modified", "users", "interactions"), pa.int64()),
        "sha256": pa.string(),
    },
    "embeddings": {"item": pa.int32(), "embedding": None},
    "encoder": {"term": pa.string(), "idf": pa.float32(), "projection": None},
    "codebooks": {
        "part": pa.string(),
        "digit": pa.int32(),
        "code": pa.int32(),
        "vector": pa.list_(pa.float32()),
    },
    "sids": {"item": pa.int32(), "sid": None},
    "targets": {"items": None, "probabilities": None},
    "popularity": {
        "item": pa.int32(),
        "interactions": pa.int64(),
        **dict.fromkeys(("trained", "warm"), pa.bool_()),
    },
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
    "grid": {  # an additional column for each option that varies
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
    "groups": {
        **dict.fromkeys(("dataset", "system", "label"), pa.string()),
        "seeds": pa.int32(),
        **dict.fromkeys(("grouping", "group"), pa.string()),
        "targets": pa.int64(),
        "metric": pa.string(),
        **dict.fromkeys(("value", "low", "high"), pa.float64()),
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
# (kind, column) of the columns in which values may be missing.
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
NUMBERED_KINDS = {"items", "sequences", "embeddings", "sids", "popularity"}
NUMBER_COLUMNS = ("item", "user")


def validate(
    path: Path, kind: str, table: pa.Table, columns: list[str] | None = None, *, first: int = 0
) -> None:
    """Check a table against the schema of its kind of artifact.

    Args:
        path: path of the artifact, for messages.
        kind: key of `SCHEMAS`.
        columns: names of the columns to check; None checks all.
        first: number of the table's first row in the artifact, if the table is a part of it.

    Raises:
        UserError: a column is missing, has another type, or lacks a value that it needs; the table has no
            rows; items or users are not numbered 0, 1, 2, … in row order.
    """
    for name, expected in SCHEMAS[kind].items():
        if columns is None or name in columns:
            _validate_column(path, kind, table, name, expected, first)
    if not len(table):
        raise UserError(f"{path} holds no rows; there is nothing to work on.")
    if kind in NUMBERED_KINDS:
        for name in NUMBER_COLUMNS:
            if name in table.column_names:
                _validate_numbers(path, table, name, first)


def _validate_column(
    path: Path, kind: str, table: pa.Table, name: str, expected: pa.DataType | None, first: int
) -> None:
    if name not in table.column_names:
        columns = ", ".join(table.column_names)
        raise UserError(f"{path} has no column {name!r} (it has {columns}); it is not of kind {kind!r}.")
    column_type = table.schema.field(name).type
    if expected is not None and column_type != expected:
        raise UserError(
            f"{path}: column {name} is {column_type}, expected {expected}; it is not of kind {kind!r} "
            "in this version of maskgr."
        )
    if (kind, name) not in NULLABLE and table.column(name).null_count:
        row = first + pc.index(pc.is_null(table.column(name)), True).as_py()
        raise UserError(f"{path}: column {name} has no value in row {row}. Make the file again.")


def _validate_numbers(path: Path, table: pa.Table, name: str, first: int) -> None:
    """Check that row r of a table holds number first + r."""
    numbers = table.column(name).to_numpy()  # [rows]
    wrong = numbers != np.arange(first, first + len(table))  # [rows]
    if wrong.any():
        row = int(np.argmax(wrong))
        raise UserError(
            f"{path}: column {name} must count 0, 1, 2, …; "
            f"row {first + row} holds {table.column(name)[row].as_py()}. "
            "Make the file again."
        )
