"""Readers of separated values: CSV, TSV and their kin, and the atomic files of RecBole."""

from __future__ import annotations

import re
from dataclasses import replace

import polars as pl

from pipelines.errors import UserError
from pipelines.options import quoted
from pipelines.readers.content import Content
from pipelines.readers.fields import Fields, parse
from pipelines.readers.layout import BLANK, Layout, layout, split
from pipelines.readers.names import plain
from pipelines.readers.rows import Reading, Rows
from pipelines.readers.typed import typed

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
    form = layout(content)
    if how.columns:
        first = next(split(content.sample[:1], form.separator), [])
        repeated = [plain(name) for name in first] == [plain(name) for name in how.columns]
        form = replace(form, header=repeated)
    fields = parse(content, form)
    notes = [f"separator {NAMED.get(form.separator, repr(form.separator))}"] if form.fields > 1 else []
    if not fields.quotes and b'"' in content.data:
        notes.append("quotes are part of the fields")
    if not form.header:
        notes.append("no header")
    header = int(form.header)
    table = fields.table[header:].rename(_names(fields, how))
    return Rows(
        typed(table, how.is_identifier, form.separator == ";"),
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
