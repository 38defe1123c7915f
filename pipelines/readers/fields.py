"""Separated values parsed into columns of text, with the places of rows and of what could not be parsed."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.csv as pc

from pipelines.options import quoted
from pipelines.readers.content import Content
from pipelines.readers.layout import BLANK, Layout, split
from pipelines.readers.rows import Unread

BLOCK = 1 << 26  # bytes that are parsed at a time; a longer row cannot be read
PIECE = 1 << 24  # bytes that are parsed at a time of a text that is read in pieces
ROWS = 1 << 19  # rows of a piece
UNIT = "\x1f"  # stands for the separators that have several characters


@dataclass(frozen=True)
class Fields:
    """All rows of a text, the header too.

    Attributes:
        content: the text.
        form: its layout.
        table: the rows, as columns of text "0", "1", …; of a text that is read in pieces, the first row.
        wrong: number, counted from 1, and text of each row that has another number of fields.
        quotes: True if quotes enclose fields.
        lost: number of lines that are not in the table, or that a quote without an end takes.
    """

    content: Content
    form: Layout
    table: pl.DataFrame
    wrong: tuple[tuple[int, str], ...]
    quotes: bool
    lost: int

    def unread(self) -> tuple[Unread, ...]:
        """Return the rows that have another number of fields."""
        reason = f"have another number of fields than {self.form.fields}"
        return tuple(
            Unread(
                reason, self._line(number), f"{self._count(text)} fields: {quoted(text.replace(UNIT, ' '))}"
            )
            for number, text in self.wrong
        )

    def place(self, row: int) -> str:
        """Return the place of a row of the table, as an editor counts lines: "line 7"."""
        number = row + 1
        for wrong, _ in self.wrong:
            number += wrong <= number
        return self._line(number)

    def _count(self, text: str) -> int:
        """Return the number of fields of a row."""
        if not self.form.may_quote:
            return text.count(UNIT) + 1
        return len(next(split([text.replace("\n", " ")], self.form.separator), []))

    def _line(self, number: int) -> str:
        """Return the place of the row of a number, counted from 1."""
        line = self._line_of_quoted(number) if self.quotes else self.content.line_of(number - 1)
        return f"row {number}" if line is None else f"line {line}"

    def _line_of_quoted(self, number: int) -> int | None:
        text = io.TextIOWrapper(self.content.open(), "utf-8", newline="")
        reader = csv.reader(text, delimiter=self.form.separator)
        start, found = 1, 0
        try:
            for fields in reader:
                found += bool(fields)
                if found == number:
                    return start
                start = reader.line_num + 1
        except csv.Error:  # a field is too long
            pass
        return None


def parse(content: Content, form: Layout, quotes: bool = True) -> Fields:
    """Parse separated values.

    Args:
        quotes: True if quotes may enclose fields. Where more lines are lost with quotes than without them,
            they are part of the fields.
    """
    if not form.may_quote:
        return _parsed(content, form, False)
    quotes = quotes and content.has_quotes
    found = _parsed(content, form, quotes)
    if not found.lost or not quotes:
        return found
    return min(found, _parsed(content, form, False), key=lambda fields: fields.lost)


def _parsed(content: Content, form: Layout, quotes: bool) -> Fields:
    """Parse by pyarrow."""
    wrong: list[tuple[int, str]] = []
    data, separator = _bytes(content, form)
    try:
        table = pc.read_csv(io.BytesIO(data), *_options(form, separator, quotes, wrong))
    except pa.ArrowInvalid:  # a quote without an end
        if not quotes:
            raise
        empty = pl.DataFrame(schema=dict.fromkeys(_columns(form), pl.String()))
        return Fields(content, form, empty, (), True, data.count(b"\n") + 1)
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    lost = sum(text.count("\n") + 1 for _, text in wrong)
    if quotes and len(frame):
        lost += _taken(data, frame[-1, -1])
    return Fields(content, form, frame, tuple(wrong), quotes, lost)


def parse_pieces(content: Content, form: Layout, quotes: bool) -> Iterator[pl.DataFrame]:
    """Yield the rows of a text that is read in pieces, the header too, as columns of text "0", "1", …"""
    yield from _read_pieces(content, form, quotes, [])


def scan(content: Content, form: Layout, seen: Callable[[bool], Callable[[pl.DataFrame], None]]) -> Fields:
    """Read a text in pieces, and return its first row and what `parse` would say of it.

    Args:
        form: a layout that may quote.
        seen: function from True if quotes enclose fields to a function that is called with all rows, as
            `parse_pieces` yields them.
    """
    found = _scanned(content, form, content.has_quotes, seen)
    if not found.lost or not found.quotes:
        return found
    return min(found, _scanned(content, form, False, seen), key=lambda fields: fields.lost)


def _scanned(
    content: Content, form: Layout, quotes: bool, seen: Callable[[bool], Callable[[pl.DataFrame], None]]
) -> Fields:
    wrong: list[tuple[int, str]] = []
    see, first, last = seen(quotes), None, ""
    try:
        for frame in _read_pieces(content, form, quotes, wrong):
            see(frame)
            if len(frame):
                first = pl.DataFrame(frame.head(1).to_dict(as_series=False)) if first is None else first
                last = frame[-1, -1]
    except pa.ArrowInvalid:  # a quote without an end
        if not quotes:
            raise
        return Fields(content, form, pl.DataFrame(), (), True, sys.maxsize)
    if first is None:
        first = pl.DataFrame(schema=dict.fromkeys(_columns(form), pl.String()))
    lost = sum(text.count("\n") + 1 for _, text in wrong)
    if quotes and "\n" in last:
        lost += _taken(_end(content, len(last.encode())), last)
    return Fields(content, form, first, tuple(wrong), quotes, lost)


def _read_pieces(
    content: Content, form: Layout, quotes: bool, wrong: list[tuple[int, str]]
) -> Iterator[pl.DataFrame]:
    options = _options(form, form.separator, quotes, wrong, PIECE)
    with content.open() as file, pc.open_csv(file, *options) as reader:
        for batch in reader:
            frame = pl.from_arrow(pa.Table.from_batches([batch]))
            assert isinstance(frame, pl.DataFrame)
            yield from frame.iter_slices(ROWS)


def _end(content: Content, size: int) -> bytes:
    """Return the end of a text: at least `size` bytes and the blanks after them."""
    end = b""
    with content.open() as file:
        while block := file.read(BLOCK):
            end = (end + block)[-(size + BLOCK) :]
    return end


def _columns(form: Layout) -> list[str]:
    return [str(i) for i in range(form.fields)]


def _options(
    form: Layout, separator: str, quotes: bool, wrong: list[tuple[int, str]], block: int = BLOCK
) -> tuple[Any, Any, Any]:
    """Return pyarrow's options.

    Args:
        wrong: list to which number and text of each row with another number of fields are added.
        block: bytes that are parsed at a time.
    """

    def skip(row: pc.InvalidRow) -> str:
        wrong.append((row.number, row.text))
        return "skip"

    names = _columns(form)
    return (
        pc.ReadOptions(use_threads=False, block_size=block, column_names=names),
        pc.ParseOptions(
            delimiter=separator,
            quote_char='"' if quotes else False,
            newlines_in_values=quotes,
            invalid_row_handler=skip,
        ),
        pc.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False),
    )


def _bytes(content: Content, form: Layout) -> tuple[bytes, str]:
    """Return a text whose separator has one character, and that separator."""
    if form.may_quote:
        return content.data, form.separator
    if form.separator != BLANK:
        return content.data.replace(form.separator.encode(), UNIT.encode()), UNIT
    lines = pl.Series([line for _, line in content.lines()], dtype=pl.String)
    text: str = lines.str.strip_chars().str.replace_all(r"\s+", UNIT).str.join("\n")[0]
    return text.encode(), UNIT


def _taken(data: bytes, last: str) -> int:
    """Return the number of lines that a quote without an end takes.

    Args:
        last: last field of the last row.
    """
    end = data.rstrip()
    is_open = "\n" in last and not end.endswith(b'"') and end.endswith(last.rstrip().encode())
    return last.count("\n") if is_open else 0
