"""Content of a file: its bytes without compression, and its text in UTF-8."""

from __future__ import annotations

import ast
import codecs
import gzip
import io
import json
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, cast

from pipelines.errors import UserError, reading
from pipelines.options import quoted

GZIP = b"\x1f\x8b"  # first bytes of a gzip file
PARQUET = b"PAR1"
HEAD = 1 << 16  # bytes from which a format is told
FIRST = 1 << 22  # first bytes of a file that is read in pieces, and bytes that are checked at a time
SAMPLE = 200  # lines from which a format is told
LONGEST_LITERAL = 1 << 20  # bytes of a line that is parsed as a Python literal
MAX_DEPTH = 32  # nesting levels of lists and objects; polars crashes at some hundreds
STRUCTURE = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?|[][{}]', re.DOTALL)  # a string, or a bracket
MARKS = {  # byte order mark → encoding
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
WESTERN = 0.5  # share of the bytes from 128 on that may stand side by side in a Western European text
ENCODINGS = {"utf-8": "UTF-8", "cp1252": "Windows-1252", "latin-1": "Latin-1"}  # codec → name in messages
FOREIGN = {  # first bytes → what such a file is
    b"PK\x03\x04": "a zip archive or an Excel workbook",
    b"\xd0\xcf\x11\xe0": "an Excel workbook",
    b"SQLite format 3": "an SQLite database",
    b"ARROW1": "an Arrow or Feather file",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "a NumPy array",
    b"\x80\x02": "a Python pickle",
    b"\x80\x03": "a Python pickle",
    b"\x80\x04": "a Python pickle",
    b"\x80\x05": "a Python pickle",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ": "an xz archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"\x28\xb5\x2f\xfd": "a zstd archive",
    b"%PDF": "a PDF document",
    b"Obj\x01": "an Avro file",
    b"ORC": "an ORC file",
    b"<!DOCTYPE": "an HTML page",
    b"<!doctype": "an HTML page",
    b"<html": "an HTML page",
    b"<?xml": "an XML document",
}


@dataclass(frozen=True)
class Content:
    """Content of a file.

    Attributes:
        path: path of the file.
        data: text in UTF-8 without a byte order mark. Of Parquet, the first bytes; if it is packed, all. Of a
            text that is read in pieces, the first lines.
        encoding: encoding of the text, as messages name it; "" for Parquet.
        packed: True if the file is compressed by gzip.
        opened: function that opens the whole text, if `data` holds the first lines only.
        quoted: True if the whole text has a quotation mark.
    """

    path: Path
    data: bytes
    encoding: str
    packed: bool = False
    opened: Callable[[], BinaryIO] | None = None
    quoted: bool | None = None

    @property
    def suffix(self) -> str:
        """Suffix in lower case, without .gz; "" if there is none."""
        suffixes = [suffix.lower() for suffix in self.path.suffixes]
        if suffixes and suffixes[-1] == ".gz":
            suffixes = suffixes[:-1]
        return (suffixes or [""])[-1]

    @property
    def is_text(self) -> bool:
        return bool(self.encoding)

    @property
    def has_quotes(self) -> bool:
        return b'"' in self.data if self.quoted is None else self.quoted

    def open(self) -> BinaryIO:
        """Open the whole text, in UTF-8 without a byte order mark."""
        return self.opened() if self.opened is not None else io.BytesIO(self.data)

    @cached_property
    def start(self) -> str:
        """First character that is not blank; "" if there is none."""
        return self.data[:HEAD].decode("utf-8", "ignore").lstrip()[:1] if self.is_text else ""

    @cached_property
    def sample(self) -> list[str]:
        """First lines that are not blank, without line ends; of a single long line, all of it."""
        lines: list[str] = []
        if self.is_text:
            size = 0
            for _, line in self.lines():
                lines.append(line)
                size += len(line)
                if len(lines) == SAMPLE or size > HEAD:
                    break
        return lines

    @cached_property
    def document(self) -> Any:
        """The whole text parsed as one JSON document; None if it is none."""
        if self.start not in ("{", "[") or self.depth(self.data) > MAX_DEPTH:
            return None
        try:
            return json.loads(self.data, parse_constant=lambda _: None)
        except (ValueError, RecursionError):
            return None

    def lines(self) -> Iterator[tuple[int, str]]:
        """Yield number, counted from 1 as an editor counts, and text of each line that is not blank."""
        with io.TextIOWrapper(self.open(), "utf-8", newline=None) as text:
            for number, line in enumerate(text, start=1):
                if not line.isspace():
                    yield number, line.rstrip("\n")

    def line_of(self, row: int) -> int | None:
        """Return the number of the row-th line that is not blank; row counts from 0."""
        return next((number for place, (number, _) in enumerate(self.lines()) if place == row), None)

    @staticmethod
    def depth(data: bytes) -> int:
        """Return the number of nesting levels of lists and objects in JSON."""
        if data.count(b"[") + data.count(b"{") <= MAX_DEPTH:
            return 0
        depth = deepest = 0
        for match in STRUCTURE.finditer(data):
            mark = match[0]
            depth = max(0, depth + (mark in b"[{") - (mark in b"]}"))
            deepest = max(deepest, depth)
        return deepest


def read_content(path: Path, encoding: str | None = None) -> Content:
    """Read a file.

    Args:
        encoding: Python's name of the encoding; None finds it.

    Raises:
        UserError: the file cannot be read, is of a kind that is not supported, or its encoding is not found.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(len(PARQUET))
            data += b"" if data == PARQUET else file.read()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}). Check its permissions.") from None
    packed = data.startswith(GZIP)
    if packed:
        with reading(path, "gzip file", "Check that it is whole."):
            data = gzip.decompress(data)
    if data.startswith(PARQUET):
        return Content(path, data, "", packed)
    for start, kind in FOREIGN.items():
        if data.lstrip()[:16].startswith(start):
            raise UserError(f"{path} is {kind}. Export it as CSV, JSON Lines or Parquet first.")
    return Content(path, *_in_utf8(path, data, encoding), packed)


def read_start(path: Path, encoding: str | None = None) -> Content | None:
    """Read the first lines of a file that is read in pieces, and check that all of it is UTF-8.

    Returns:
        None if only `read_content` can read the file: it is neither Parquet nor text in UTF-8 of short lines,
        it may be one JSON document, or it is Parquet that is packed.

    Raises:
        UserError: the file cannot be read.
    """
    if encoding is not None and codecs.lookup(encoding).name != "utf-8":
        return None
    try:
        with open(path, "rb") as file:
            start = file.read(len(PARQUET))
            if start == PARQUET:
                return Content(path, start, "")
        packed = start.startswith(GZIP)
        with reading(path, "gzip file", "Check that it is whole.") if packed else nullcontext():
            return _text_start(path, packed)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}). Check its permissions.") from None


def _text_start(path: Path, packed: bool) -> Content | None:
    """Return the first lines of a text in UTF-8; see `read_start`."""
    skipped = 0  # bytes of the byte order mark

    def opened() -> BinaryIO:
        file: Any = gzip.open(path) if packed else open(path, "rb")  # noqa: SIM115 - the caller closes it
        file.read(skipped)
        return cast(BinaryIO, file)

    with opened() as file:
        skipped = len(codecs.BOM_UTF8) if file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8 else 0
    decoder, head, quoted = codecs.getincrementaldecoder("utf-8")(), b"", False
    with opened() as file:
        while block := file.read(FIRST):
            head = head or block
            quoted = quoted or b'"' in block
            try:
                decoder.decode(block)
            except UnicodeDecodeError:
                return None
        try:
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return None
    content = Content(path, head[: head.rfind(b"\n") + 1], "UTF-8", packed, opened, quoted)
    foreign = any(head.lstrip()[:16].startswith(start) for start in (*FOREIGN, PARQUET))
    return None if foreign or b"\0" in head or content.start in ("", "{", "[") else content


def parse_literal(line: str) -> Any:
    """Parse a Python literal; nothing in it is evaluated.

    Returns:
        None if the line is none, or is too long or nested too deeply.
    """
    if len(line) > LONGEST_LITERAL or Content.depth(line.encode("utf-8", "replace")) > MAX_DEPTH:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of backslashes in texts
            return ast.literal_eval(line.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _in_utf8(path: Path, data: bytes, encoding: str | None) -> tuple[bytes, str]:
    """Return a text in UTF-8 and the name of its encoding."""
    mark = next((mark for mark in MARKS if data.startswith(mark)), b"")
    data = data[len(mark) :]
    codec = encoding or MARKS.get(mark) or _codec(path, data)
    try:
        text = data if codec == "utf-8" else data.decode(codec).encode()
        if codec == "utf-8":
            data.decode()
    except (UnicodeError, LookupError):
        raise UserError(
            f"{path} is not text in {ENCODINGS.get(codec, codec)}. Name its encoding with --encoding."
        ) from None
    return text, ENCODINGS.get(codec, codec.upper())


def _codec(path: Path, data: bytes) -> str:
    """Return the codec of a text without a byte order mark.

    Raises:
        UserError: the file is not text, or it is of no encoding that can be told.
    """
    head = data[:HEAD]
    if b"\0" in head:
        zeros = [head[start::2].count(0) for start in (0, 1)]
        if max(zeros) > len(head) / 8 and min(zeros) * 8 < max(zeros):
            return "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"
    try:
        data.decode()
        return "utf-8"
    except UnicodeDecodeError as error:
        start = error.start
    if b"\0" in head:
        raise UserError(f"{path} is neither text nor a readable Parquet file. Check that it is whole.")
    high = re.findall(rb"[\x80-\xff]+", data)
    total = sum(map(len, high))
    if sum(len(run) for run in high if len(run) > 1) > WESTERN * total:
        place = data.count(b"\n", 0, start) + 1
        shown = data[data.rfind(b"\n", 0, start) + 1 :].splitlines()[0][:40]
        raise UserError(
            f"{path}, line {place} is not UTF-8: {quoted(shown)}. Name the encoding with --encoding, e.g. "
            "gb18030, shift_jis, euc_kr, cp1251 or cp1252."
        )
    return "latin-1" if re.search(rb"[\x81\x8d\x8f\x90\x9d]", data) else "cp1252"
