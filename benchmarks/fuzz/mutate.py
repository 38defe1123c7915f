"""Mutations of valid files: of their bytes, and of their values, with knowledge of the format."""

from __future__ import annotations

import ast
import gzip
import io
import json
import re
import zipfile
from collections.abc import Callable
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Mutation = Callable[[Random, bytes], bytes]

RAW = "<raw %d>"  # placeholder of a text that `json.dumps` cannot write
DEEP = [
    "[" * 990 + "]" * 990,
    '{"a":' * 990 + "1" + "}" * 990,
    "[" * 100_000,
    '{"a":' * 200 + "1" + "}" * 200,
]
NUMBERS: list[Any] = [
    0,
    -1,
    1,
    255,
    65_536,
    2**31,
    2**63 - 1,
    2**63,
    2**64,
    -(2**63) - 1,
    10**19,
    10**20,
    2**127,
    2**128,
    10**400,
]
NUMBERS += [0.5, -0.0, 1e308, 1e-320, float("nan"), float("inf"), -float("inf")]
TEXTS = [
    "",
    " ",
    "\0",
    "\x1b]0;title\x07",
    "\x9b31m",
    "\ud800",
    "\udfff a",
    "\u202eabc",
    "é" * 300,
    "a" * 70_000,
    "..",
    "../..",
    "/dev/null",
]
TEXTS += [
    "nan",
    "inf",
    "1e999",
    "9" * 20,
    "9" * 5000,
    "0x1F",
    "-0",
    "true",
    "null",
    "2020-13-45",
    "9999-12-31T23:59:60Z",
    "a,b\nc",
    '"',
    "&#" + "9" * 5000,
]
BAD_VALUES = [
    *NUMBERS,
    *TEXTS,
    None,
    True,
    False,
    [],
    {},
    [[]],
    [None],
    [1, "a"],
    {"a": 1},
    {"": ""},
    *(RAW % i for i in range(len(DEEP))),
]


def of_bytes(rng: Random, data: bytes) -> bytes:
    """Flip, overwrite, remove, repeat, insert or truncate bytes, at one to three positions."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        start = rng.randrange(len(changed) + 1)
        end = min(len(changed), start + rng.choice((1, 1, 2, 4, 8, 64, 512)))
        piece = bytes(changed[start:end])
        changed[start:end] = rng.choice(
            (
                bytes(byte ^ 1 << rng.randrange(8) for byte in piece),
                rng.randbytes(len(piece)),
                rng.choice((b"\0", b"\xff", b"\x7f", b"\x80")) * len(piece),
                b"",
                piece * rng.choice((2, 3, 100)),
                rng.randbytes(rng.choice((1, 4, 100))) + piece,
                changed[rng.randrange(len(changed) + 1) :][: len(piece)],
                piece[:0] if rng.random() < 0.8 else piece + b"[" * 5000,
            )
        )
        if rng.random() < 0.15:
            del changed[rng.randrange(len(changed) + 1) :]
    return bytes(changed)


def to_json(value: Any) -> str:
    """Return a value as JSON, with its placeholders replaced by texts that JSON cannot hold."""
    text = json.dumps(value)
    for number, raw in enumerate(DEEP):
        text = text.replace(json.dumps(RAW % number), raw)
    return text


def of_value(rng: Random, value: Any) -> Any:
    """Return a value with one part replaced, removed, renamed or repeated."""
    if not isinstance(value, (dict, list)) or not value or rng.random() < 0.1:
        return rng.choice(BAD_VALUES)
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key, copy = rng.choice(keys), value.copy()
    choice = rng.random()
    if choice < 0.1:
        del copy[key]
    elif choice < 0.2 and isinstance(copy, dict):
        copy[rng.choice(TEXTS)] = copy.pop(key)
    elif choice < 0.25 and isinstance(copy, list):
        copy.insert(key, rng.choice(BAD_VALUES))
    else:
        copy[key] = of_value(rng, copy[key])
    return copy


def of_json(rng: Random, data: bytes) -> bytes:
    """Mutate a JSON file."""
    return of_bytes(rng, data) if rng.random() < 0.4 else to_json(of_value(rng, json.loads(data))).encode()


def of_lines(rng: Random, data: bytes) -> bytes:
    """Mutate lines of JSON or of Python literals."""
    if rng.random() < 0.3:
        return of_bytes(rng, data)
    lines = data.split(b"\n")
    for _ in range(rng.choice((1, 1, 3))):
        number = rng.randrange(len(lines))
        try:
            value = of_value(rng, ast.literal_eval(lines[number].decode()))
        except (ValueError, SyntaxError, MemoryError):
            continue
        literal = rng.random() < 0.3
        try:
            lines[number] = repr(value).encode("utf-8", "replace") if literal else to_json(value).encode()
        except ValueError:  # a number is too long to be written
            continue
    return b"\n".join(lines)


def of_csv(separator: str) -> Mutation:
    """Return a mutation of delimited text: one to three fields replaced, or a row made longer or shorter."""

    def mutate(rng: Random, data: bytes) -> bytes:
        if rng.random() < 0.3:
            return of_bytes(rng, data)
        lines = data.decode("latin-1").split("\n")
        for _ in range(rng.choice((1, 1, 3))):
            number = 0 if rng.random() < 0.1 else rng.randrange(len(lines))
            fields = lines[number].split(separator)
            column = rng.randrange(len(fields))
            new = rng.choice(
                [*TEXTS, *(str(n) for n in NUMBERS if n != 10**400), separator, '"', '"' * 3, "\r", *DEEP[:1]]
            )
            fields[column : column + rng.choice((0, 1, 1, 1, 2))] = [
                new.encode("utf-8", "replace").decode("latin-1")
            ]
            lines[number] = separator.join(fields)
        return "\n".join(lines).encode("latin-1")

    return mutate


def of_toml(rng: Random, data: bytes) -> bytes:
    """Mutate TOML: values replaced, lines removed or repeated."""
    if rng.random() < 0.3:
        return of_bytes(rng, data)
    text = data.decode()
    values = list(re.finditer(r'"[^"\n]*"|(?<== )[\w.\-]+|\[[^\[\]\n]*\]', text))
    for match in sorted(rng.sample(values, rng.choice((1, 1, 2))), key=lambda m: -m.start()):
        new = rng.choice(
            [n for n in NUMBERS if n != 10**400]
            + [*TEXTS[:8], True, [], {}, [[]], [1, "a"], "[" * 990 + "]" * 990, "{}"]
        )
        replacement = (
            new
            if isinstance(new, str) and new[:1] in ("[", "{")
            else to_json(new).replace("NaN", "nan").replace("Infinity", "inf")
        )
        text = text[: match.start()] + replacement + text[match.end() :]
    lines = text.split("\n")
    if rng.random() < 0.2:
        number = rng.randrange(len(lines))
        lines[number : number + 1] = [lines[number]] * rng.choice((0, 2))
    return "\n".join(lines).encode()


def in_gzip(inner: Mutation) -> Mutation:
    """Return a mutation of the content of a gzip file, or of the file's bytes."""

    def mutate(rng: Random, data: bytes) -> bytes:
        return (
            of_bytes(rng, data)
            if rng.random() < 0.3
            else gzip.compress(inner(rng, gzip.decompress(data)), 1, mtime=0)
        )

    return mutate


def in_zip(inner: Mutation) -> Mutation:
    """Return a mutation of a zip archive: a member, its compression, or the archive's bytes.

    The directory at the end of the archive is mutated more often than by chance.
    """

    def mutate(rng: Random, data: bytes) -> bytes:
        choice = rng.random()
        if choice < 0.3:
            return of_bytes(rng, data)
        if choice < 0.5:
            start = data.rindex(b"PK\1\2")
            return data[:start] + of_bytes(rng, data[start:])
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        name = rng.choice(sorted(members))
        members[name] = inner(rng, members[name])
        buffer = io.BytesIO()
        kind = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2))
        with zipfile.ZipFile(buffer, "w", kind) as archive:
            for member, text in members.items():
                archive.writestr(zipfile.ZipInfo(member), text, kind)
        changed = buffer.getvalue()
        return of_bytes(rng, changed) if rng.random() < 0.5 else changed

    return mutate


def _columns() -> list[Callable[[int], pa.Array]]:
    """Return functions that make columns of n rows with unexpected types or values."""
    types = [
        pa.duration("ns"),
        pa.decimal128(38, 3),
        pa.decimal128(20),
        pa.decimal256(70),
        pa.float16(),
        pa.uint64(),
        pa.date64(),
        pa.time64("ns"),
    ]
    types += [
        pa.null(),
        pa.bool_(),
        pa.timestamp("ms", "Europe/Paris"),
        pa.timestamp("s"),
        pa.binary(4),
        pa.int64(),
        pa.float64(),
        pa.large_string(),
    ]
    types += [
        pa.list_(pa.string()),
        pa.struct([("a", pa.int8())]),
        pa.map_(pa.string(), pa.int32()),
        pa.list_(pa.int32(), 3),
    ]
    extremes = [
        [2**63 - 1, -(2**63)],
        [float("nan"), float("inf")],
        [b"\xff\xfe", b"ok"],
        ["a\0b", "\x1b[31m"],
        [None, 1],
        [b"", None],
    ]
    return [
        *(lambda n, t=t: pa.nulls(n, t) for t in types),
        *(lambda n, v=v: pa.array((v * n)[:n]) for v in extremes),
    ] + [
        lambda n: pa.array((["x", "y"] * n)[:n]).dictionary_encode(),
        lambda n: pa.array([2**63 - 1] * n, pa.timestamp("ms")),
        lambda n: pa.array([-(2**63)] * n, pa.timestamp("ns")),
        lambda n: pa.array([7] * n, pa.duration("us")),
        lambda n: pa.Array.from_buffers(pa.string(), n, pa.array([b"\xff\xfe"] * n).buffers()),
        lambda n: pa.array([[0.0, float("nan")]] * n, pa.list_(pa.float32(), 2)),
        lambda n: pa.array([2**31 - 1] * n, pa.int32()),
        lambda n: pa.array([-1] * n, pa.int16()),
    ]


def of_parquet(rng: Random, data: bytes) -> bytes:
    """Mutate Parquet: bytes, mostly in the footer; types, names and lengths of columns; or the metadata."""
    choice = rng.random()
    if choice < 0.25:
        return of_bytes(rng, data)
    if choice < 0.55:
        start = max(4, len(data) - 8 - int.from_bytes(data[-8:-4], "little"))
        return data[:start] + of_bytes(rng, data[start:])
    table = pq.read_table(io.BytesIO(data))
    metadata = table.schema.metadata or {}
    if metadata and choice < 0.7:
        key = rng.choice(sorted(metadata))
        table = table.replace_schema_metadata({**metadata, key: of_json(rng, metadata[key])})
    else:
        number = rng.randrange(table.num_columns)
        name = table.column_names[number]
        column = rng.choice(
            (
                lambda: rng.choice(_columns())(len(table)),
                lambda: table[name].take(pa.array([rng.randrange(len(table)) for _ in range(len(table))])),
                lambda: pa.array(
                    [rng.choice((None, value)) for value in table[name].to_pylist()], table[name].type
                ),
            )
        )()
        table = table.set_column(
            number, rng.choice((name, name, name, rng.choice(TEXTS[:3] + ["item"]))), column
        )
        if rng.random() < 0.15:
            table = (
                table.slice(0, rng.randrange(len(table)))
                if rng.random() < 0.5
                else table.remove_column(number)
            )
    buffer = io.BytesIO()
    pq.write_table(table, buffer, write_page_checksum=True)
    return buffer.getvalue()


def of_safetensors(rng: Random, data: bytes) -> bytes:
    """Mutate safetensors: bytes, or the header with a correct length."""
    size = int.from_bytes(data[:8], "little")
    if rng.random() < 0.4:
        return of_bytes(rng, data)
    header = json.loads(data[8 : 8 + size])
    metadata = header.get("__metadata__", {})
    if "state" in metadata and rng.random() < 0.5:
        metadata["state"] = of_json(rng, metadata["state"].encode()).decode("utf-8", "replace")
        changed = json.dumps(header).encode()
    else:
        changed = of_json(rng, json.dumps(header).encode())
    return len(changed).to_bytes(8, "little") + changed + data[8 + size :]
