"""Reader of the user's own files: CSV, TSV, JSON Lines and Parquet; the text formats also with gzip."""

from __future__ import annotations

import gzip
import io
import re
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.errors import UserError, hidden_panics, reading

FORMATS = (".csv", ".tsv", ".jsonl", ".json", ".ndjson", ".parquet")
SEPARATORS = {".csv": ",", ".tsv": "\t"}
MAX_DEPTH = 32  # nesting levels of lists and objects in a line of JSON; polars crashes at some hundreds
STRUCTURE = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?|[][{}]', re.DOTALL)  # a string, or a bracket
GZIP = b"\x1f\x8b"  # first bytes of a gzip file


def check_file(path: Path) -> None:
    """Check that a file exists, can be opened and has a known format.

    Raises:
        UserError: it does not, cannot, or has not.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist or is not a file. Check --interactions and --items.")
    if file_format(path) not in FORMATS:
        raise UserError(
            f"{path} is of no known format. Use {', '.join(FORMATS)}, the text ones also with .gz."
        )
    try:
        open(path, "rb").close()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}). Check its permissions.") from None


def file_format(path: Path) -> str:
    """Return the suffix of a file in lower case, without .gz."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if len(suffixes) > 1 and suffixes[-1] == ".gz":
        return suffixes[-2]
    return (suffixes or [""])[-1]


def read_file(path: Path, is_identifier: Callable[[str], bool]) -> pl.DataFrame:
    """Read a file as a table. Whole numbers of more than 64 bits become text.

    Args:
        is_identifier: function that returns True for the name of a column of identifiers. In CSV and TSV,
            such columns are read as text, exactly as they are written ("007").

    Raises:
        UserError: the file cannot be read or has no rows, or the name of a column has a NUL.
    """
    kind = file_format(path)
    advice = "Check that it is whole and its name fits its format."
    with reading(path, f"{kind} file", advice), hidden_panics():
        if kind == ".parquet":
            table = _read_parquet(path)
        elif kind in SEPARATORS:
            table = _read_csv(path, SEPARATORS[kind], is_identifier)
        else:
            table = pl.read_ndjson(io.BytesIO(_json_lines(path)), infer_schema_length=None)
    if table.is_empty():
        raise UserError(f"{path} holds no rows; there is nothing to import.")
    for name in table.columns:
        if "\0" in name:
            raise UserError(f"{path}: the column {name!r} has a NUL in its name. Give it another name.")
    types = {name: _narrow(dtype) for name, dtype in table.schema.items()}
    return table.with_columns(
        pl.col(name).cast(types[name]) for name, dtype in table.schema.items() if types[name] != dtype
    )


def _read_csv(path: Path, separator: str, is_identifier: Callable[[str], bool]) -> pl.DataFrame:
    header = pl.read_csv(path, separator=separator, n_rows=0, infer_schema=False, glob=False).columns
    texts = {name: pl.String for name in header if is_identifier(name)}
    return pl.read_csv(
        path, separator=separator, schema_overrides=texts, infer_schema_length=None, glob=False
    )


def _read_parquet(path: Path) -> pl.DataFrame:
    """Read a Parquet file with Arrow, which refuses files that make polars panic.

    Arrow also checks that texts are UTF-8.
    """
    table = pq.ParquetFile(path).read()
    for name in table.column_names:
        try:
            table[name].validate(full=True)
        except pa.ArrowInvalid as error:
            raise UserError(
                f"{path}: column {name} cannot be read ({error}). Write the file again."
            ) from None
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _json_lines(path: Path) -> bytes:
    """Return the decompressed bytes of a file of JSON Lines.

    Raises:
        UserError: a line is nested more than `MAX_DEPTH` levels deep, or the file begins with something else
            than an object.
    """
    data = path.read_bytes()
    data = gzip.decompress(data) if data.startswith(GZIP) else data
    for number, line in enumerate(io.BytesIO(data), start=1):
        if line.count(b"[") + line.count(b"{") > MAX_DEPTH and _depth(line) > MAX_DEPTH:
            raise UserError(
                f"{path}, line {number} is nested more than {MAX_DEPTH} levels deep. "
                "Give a file with users, items and times side by side."
            )
    if data.strip()[:1] not in (b"{", b""):
        raise UserError(
            f"{path} is not JSON Lines: it begins with {data.strip()[:20]!r}, where a line is an object "
            f"{{…}}."
        )
    return data


def _depth(line: bytes) -> int:
    """Return the number of nesting levels of lists and objects in a line of JSON."""
    depth = deepest = 0
    for mark in STRUCTURE.findall(line):
        depth = max(0, depth + (mark in b"[{") - (mark in b"]}"))
        deepest = max(deepest, depth)
    return deepest


def _narrow(kind: pl.DataType) -> pl.DataType:
    """Return the type that can be stored in its place.

    Text stands for 128-bit integers, which Arrow does not support, and lists of any length for those of one
    length, which pyarrow 25 cannot read again where one is missing.
    """
    if isinstance(kind, (pl.List, pl.Array)):
        return pl.List(_narrow(inner_type(kind)))
    return pl.String() if str(kind) in ("Int128", "UInt128") else kind


def inner_type(kind: pl.DataType) -> pl.DataType:
    """Return the type of a list's entries, or any other type as it is."""
    if not isinstance(kind, (pl.List, pl.Array)):
        return kind
    return kind.inner if isinstance(kind.inner, pl.DataType) else kind.inner()
