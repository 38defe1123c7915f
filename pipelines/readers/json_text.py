"""Readers of JSON and of Python literals: lines of objects, lists of objects, and dictionaries."""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Callable
from typing import Any

import polars as pl

from pipelines.errors import UserError, hidden_panics
from pipelines.options import quoted
from pipelines.readers.content import MAX_DEPTH, Content, parse_literal
from pipelines.readers.names import ITEM_ROWS, USERS, matches
from pipelines.readers.rows import Reading, Rows, Unread
from pipelines.readers.typed import flat

TOKEN = re.compile(r"<[^<>\s]*\d+>")  # a token of a semantic ID: <a_12>
Values = list[dict[str, Any]]
TRIED = 5  # first lines of which one must be an object


def is_lines(content: Content) -> bool:
    """Return True for lines of JSON objects."""
    if content.start != "{" or is_dictionary(content) or is_list(content):
        return False
    return not is_literals(content)


def is_literals(content: Content) -> bool:
    """Return True for lines of Python dictionaries that are not JSON."""
    lines = content.sample[:TRIED]
    if content.start != "{" or any(isinstance(_json(line), dict) for line in lines):
        return False
    return any(isinstance(parse_literal(line), dict) for line in lines)


def is_list(content: Content) -> bool:
    """Return True for a list, and for an object whose only list has objects."""
    return content.start == "[" or _entries(content) is not None


def is_dictionary(content: Content) -> bool:
    """Return True for one object all of whose values are objects or lists."""
    document = content.document
    if not isinstance(document, dict) or not document or is_list(content):
        return False
    return any(all(isinstance(value, kind) for value in document.values()) for kind in (dict, list))


def read_lines(content: Content, how: Reading) -> Rows:
    """Read lines of JSON objects; a line that is none is left out.

    Raises:
        UserError: a line is nested too deeply.
    """
    _refuse_depth(content)
    try:
        with hidden_panics():
            table = pl.read_ndjson(io.BytesIO(content.data), infer_schema_length=None)
        return Rows(flat(table), place=lambda row: f"line {content.line_of(row)}")
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):  # a line is no object
        return _read_values(content, _json)


def read_literals(content: Content, how: Reading) -> Rows:
    """Read lines of Python dictionaries; nothing in them is evaluated."""
    return _read_values(content, parse_literal)


def read_list(content: Content, how: Reading) -> Rows:
    """Read one list of objects.

    Raises:
        UserError: the text is not JSON, or the list has other entries than objects.
    """
    entries = _entries(content)
    if entries is None:
        raise UserError(f"{content.path} is no list of objects [{{…}}, …]: {_fault(content)}.")
    table, kept = _frame(entries)
    return Rows(flat(table), place=lambda row: f"entry {kept[row] + 1}")


def read_dictionary(content: Content, how: Reading) -> Rows:
    """Read one object: users to their items in order, items to their fields, items to their tokens, or names
    of columns to their values.

    Returns:
        user_id and item_id, one row an item; or item_id and the fields; or item_id and tokens (lists).
    """
    document: dict[str, Any] = content.document
    keys = list(document)
    if matches(keys, USERS) and matches(keys, ITEM_ROWS):
        return _by_column(content, document)
    if isinstance(document[keys[0]], dict):
        table, _ = _frame([{"item_id": key} | value for key, value in document.items()])
        return Rows(flat(table), ("an item to its fields",), place=_key_place(keys))
    lists = [[_text(entry) for entry in value] for value in document.values()]
    if all(TOKEN.fullmatch(entry or "") for entries in lists for entry in entries):
        table = pl.DataFrame({"item_id": keys, "tokens": lists}, schema=TOKENS)
        return Rows(table, ("an item to its tokens",), place=_key_place(keys))
    table = pl.DataFrame({"user_id": keys, "item_id": lists}, schema=HISTORIES).with_row_index("key")
    table = table.filter(pl.col("item_id").list.len() > 0).explode("item_id")
    places = table["key"]
    return Rows(
        table.drop("key"),
        ("a user to the user's items",),
        ordered=True,
        place=lambda row: f"entry {quoted(keys[places[row]])}",
    )


TOKENS = {"item_id": pl.String(), "tokens": pl.List(pl.String())}
HISTORIES = {"user_id": pl.String(), "item_id": pl.List(pl.String())}


def _by_column(content: Content, document: dict[str, Any]) -> Rows:
    columns = {
        name: list(value.values() if isinstance(value, dict) else value) for name, value in document.items()
    }
    if len({len(values) for values in columns.values()}) > 1:
        raise UserError(
            f"{content.path}: its columns have different numbers of values. Write the file again."
        )
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    table, kept = _frame(rows)
    return Rows(flat(table), ("a column to its values",), place=lambda row: f"entry {kept[row] + 1}")


def _key_place(keys: list[str]) -> Callable[[int], str]:
    return lambda row: f"entry {quoted(keys[row])}"


def _entries(content: Content) -> list[dict[str, Any]] | None:
    """Return the objects of one list; None if the document is no such list."""
    document = content.document
    if isinstance(document, dict):
        lists = [value for value in document.values() if isinstance(value, list)]
        if len(lists) != 1 or len(document) > TRIED:
            return None
        document = lists[0]
    if not isinstance(document, list) or not document:
        return None
    return document if all(isinstance(entry, dict) for entry in document) else None


def _text(entry: Any) -> str | None:
    if isinstance(entry, (dict, list)):
        return None
    return None if entry is None else str(entry)


def _json(line: str) -> Any:
    """Parse a line of JSON, in which NaN is missing; None if it is none."""
    try:
        return json.loads(line, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return None


def _read_values(content: Content, parse: Callable[[str], Any]) -> Rows:
    """Read lines one by one; a line that is no object is left out."""
    _refuse_depth(content)
    values: list[dict[str, Any]] = []
    numbers: list[int] = []
    unread: list[Unread] = []
    for number, line in content.lines():
        value = parse(line)
        if isinstance(value, dict) and _line(value) is not None:
            values.append(value)
            numbers.append(number)
        else:
            unread.append(Unread("are not objects", f"line {number}", quoted(line)))
    if not values:
        raise UserError(f"{content.path}: no line is an object {{…}}, {unread[0].place}: {unread[0].text}.")
    table, _ = _frame(values)
    return Rows(flat(table), unread=tuple(unread), place=lambda row: f"line {numbers[row]}")


def _frame(values: Values) -> tuple[pl.DataFrame, list[int]]:
    """Return objects as a table, and the numbers of the objects in it: those that JSON can express."""
    lines = [_line(value) for value in values]
    kept = [number for number, line in enumerate(lines) if line is not None]
    values = [value for value, line in zip(values, lines, strict=True) if line is not None]
    for simplify in (_as_they_are, _mixed_as_text, _nested_as_text):
        data = b"\n".join(line for value in simplify(values) if (line := _line(value)) is not None)
        with contextlib.suppress(pl.exceptions.PolarsError):  # fields of several types
            return pl.read_ndjson(io.BytesIO(data), infer_schema_length=None), kept
    raise ValueError("fields have values of several types")


def _as_they_are(values: Values) -> Values:
    return values


def _mixed_as_text(values: Values) -> Values:
    """Return objects in which fields whose values have several types are JSON texts."""
    kinds: dict[str, set[type]] = {}
    for value in values:
        for name, entry in value.items():
            if entry is not None:
                kinds.setdefault(name, set()).add(float if type(entry) is int else type(entry))
    mixed = {name for name, found in kinds.items() if len(found) > 1}
    return [{k: _as_text(v) if k in mixed else v for k, v in value.items()} for value in values]


def _nested_as_text(values: Values) -> Values:
    """Return objects in which lists and objects are JSON texts, and fields of several types, too."""
    nested = (dict, list)
    return _mixed_as_text(
        [{k: _as_text(v) if isinstance(v, nested) else v for k, v in value.items()} for value in values]
    )


def _as_text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _fault(content: Content) -> str:
    """Return the reason why a text is no list of objects, a clause."""
    try:
        json.loads(content.data)
    except json.JSONDecodeError as error:
        return f"{error.msg} in line {error.lineno}, column {error.colno}"
    except (ValueError, RecursionError):
        return "it is nested too deeply or has a number that is too long"
    return "it has other entries, or none"


def _line(value: dict[str, Any]) -> bytes | None:
    """Return an object as a line of JSON; None if JSON cannot express it."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, TypeError, RecursionError):
        return None


def _refuse_depth(content: Content) -> None:
    """Refuse lines that are nested so deeply that polars crashes."""
    for number, line in enumerate(io.BytesIO(content.data), start=1):
        if line.count(b"[") + line.count(b"{") > MAX_DEPTH and content.depth(line) > MAX_DEPTH:
            raise UserError(
                f"{content.path}, line {number} is nested more than {MAX_DEPTH} levels deep. "
                "Give a file with users, items and times side by side."
            )
