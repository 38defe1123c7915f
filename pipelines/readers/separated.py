"""Readers of separated values: CSV, TSV and their kin, and the atomic files of RecBole."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

import polars as pl
import pyarrow as pa

from pipelines.errors import UserError
from pipelines.options import quoted
from pipelines.readers.content import Content
from pipelines.readers.fields import Fields, parse, parse_pieces, scan
from pipelines.readers.layout import BLANK, Layout, layout, split
from pipelines.readers.names import plain
from pipelines.readers.rows import Reading, Rows
from pipelines.readers.typed import LISTS, Kinds, of_kind, typed

NAMED = {"\t": "tab", BLANK: "blank"}  # separator → its name in messages
TYPED = re.compile(r"[^:]+:(token|token_seq|float|float_seq)")  # a name in a header of RecBole
TITLES = {"title", "name", "description", "text", "summary", "review", "brand"}  # sequences of words


def is_separated(content: Content) -> bool:
    """Return True for a text that is neither JSON nor of RecBole."""
    return content.start not in ("{", "[", "") and not is_typed(content)


def is_typed(content: Content) -> bool:
    """Return True if the first line is a header of RecBole, whose names end with types."""
    names = content.sample[0].split("\t") if content.sample else []
    return bool(names) and all(TYPED.fullmatch(name) for name in names)


def read_separated(content: Content, how: Reading) -> Rows:
    """Read separated values; numbers, true and false, and lists are told from texts.

    Raises:
        UserError: the names of `how.columns` are not as many as the fields, or the header has another number
            of fields than the rows.
    """
    form = _layout(content, how)
    fields = parse(content, form)
    table = fields.table[int(form.header) :].rename(_names(fields, how))
    return _rows(fields, typed(table, how.is_identifier, form.separator == ";"), how)


def read_separated_pieces(content: Content, how: Reading) -> Rows | None:
    """Read separated values in pieces, with the same result as `read_separated`.

    Returns:
        None if they cannot be read in pieces: the separator allows no quotes, a row is very long, or a column
        has lists.

    Raises:
        UserError: see `read_separated`.
    """
    form = _layout(content, how)
    if not form.may_quote:
        return None
    found: dict[bool, _Found] = {}

    def seen(quotes: bool) -> Callable[[pl.DataFrame], None]:
        found[quotes] = _Found(form)
        return found[quotes].add

    try:
        fields = scan(content, form, seen)
    except pa.ArrowInvalid:  # a row is longer than a piece
        return None
    if not len(fields.table):
        return None
    names, kinds = _names(fields, how), found[fields.quotes].kinds
    chosen = {
        name: None if how.is_identifier(name) else kinds[number].narrowest for number, name in names.items()
    }
    if LISTS in chosen.values():
        return None

    def converted(piece: pl.DataFrame) -> pl.DataFrame:
        table = piece.rename(names).with_columns(pl.col(pl.String).replace("", None))
        return pl.DataFrame([of_kind(table[name], kind) for name, kind in chosen.items()])

    def pieces() -> Iterator[pl.DataFrame]:
        skip = int(form.header)
        for piece in parse_pieces(content, form, fields.quotes):
            yield converted(piece[skip:])
            skip = 0

    rows = _rows(fields, converted(fields.table.clear()), how)
    return replace(rows, pieces=pieces, count=found[fields.quotes].rows)


class _Found:
    """What pieces of separated values hold: kinds of the columns, and number of rows without the header."""

    def __init__(self, form: Layout) -> None:
        self.kinds = {str(i): Kinds(form.separator == ";") for i in range(form.fields)}
        self.rows, self._header = 0, int(form.header)

    def add(self, piece: pl.DataFrame) -> None:
        table = piece[self._header :].with_columns(pl.col(pl.String).replace("", None))
        self.rows, self._header = self.rows + len(table), 0
        for name, kinds in self.kinds.items():
            kinds.add(table[name])


def _layout(content: Content, how: Reading) -> Layout:
    """Return the layout of a text; given names decide whether there is a header."""
    form = layout(content)
    if not how.columns:
        return form
    first = next(split(content.sample[:1], form.separator), [])
    repeated = [plain(name) for name in first] == [plain(name) for name in how.columns]
    return replace(form, header=repeated)


def _rows(fields: Fields, table: pl.DataFrame, how: Reading) -> Rows:
    """Return a typed table with what is to be said about its file."""
    form, header = fields.form, int(fields.form.header)
    notes = [f"separator {NAMED.get(form.separator, repr(form.separator))}"] if form.fields > 1 else []
    if not fields.quotes and fields.content.has_quotes:
        notes.append("quotes are part of the fields")
    if not form.header:
        notes.append("no header")
    return Rows(
        table,
        tuple(notes),
        fields.unread(),
        headless=not form.header and not how.columns,
        place=lambda row: fields.place(row + header),
    )


def read_typed(content: Content, how: Reading) -> Rows:
    """Read an atomic file of RecBole: fields between tabs, the type of each column in the header."""
    types = [name.rsplit(":", 1)[1] for name in content.sample[0].split("\t")]
    fields = parse(content, Layout("\t", len(types), True, 1.0))
    table = fields.table[1:].rename(_names(fields, how)).with_columns(pl.col(pl.String).replace("", None))
    columns = [_of_type(column, kind) for column, kind in zip(table, types, strict=True)]
    return Rows(
        pl.DataFrame(columns),
        ("types from the header",),
        fields.unread(),
        place=lambda row: fields.place(row + 1),
    )


def _of_type(column: pl.Series, kind: str) -> pl.Series:
    """Return a column of text with a type of RecBole; a text that is no number becomes a missing value.

    Tokens of a sequence stand between commas, or between blanks where there is no comma. Sequences of words,
    such as titles, stay text.
    """
    if kind == "float":
        return column.cast(pl.Float64, strict=False)
    if kind == "float_seq":
        return column.str.split(" ").cast(pl.List(pl.Float64), strict=False)
    if kind == "token" or plain(column.name) in TITLES:
        return column
    separator = "," if column.str.contains(",", literal=True).any() else " "
    entries = column.str.split(separator).list.eval(pl.element().str.strip_chars())
    return entries.list.eval(pl.element().filter(pl.element() != ""))


def _names(fields: Fields, how: Reading) -> dict[str, str]:
    """Return the names of the columns "0", "1", …: those given, those of the header, or ours.

    Raises:
        UserError: there are more or fewer names than fields.
    """
    path, form, columns = fields.content.path, fields.form, fields.table.columns
    if how.columns:
        if len(how.columns) != form.fields:
            raise UserError(
                f"{path} has {form.fields} columns; --columns names {len(how.columns)}. Name each of them in "
                "the order of the file."
            )
        return dict(zip(columns, how.columns, strict=True))
    if not form.header:
        return {name: f"column_{int(name) + 1}" for name in columns}
    if any(number == 1 for number, _ in fields.wrong):
        raise UserError(
            f"{path}: the rows have {form.fields} fields, and the header has another number of names: "
            f"{quoted(fields.content.sample[0])}. Mend the header."
        )
    if not len(fields.table):
        return {}
    names = [name.rsplit(":", 1)[0] if TYPED.fullmatch(name) else name for name in fields.table.row(0)]
    return dict(zip(columns, _distinct(names), strict=True))


def _distinct(names: list[str]) -> list[str]:
    """Return names of which none is empty and none stands twice."""
    distinct: list[str] = []
    for number, given in enumerate(names, start=1):
        name = given.strip() or f"column_{number}"
        while name in distinct:
            name += "_"
        distinct.append(name)
    return distinct
