"""JSON decoded and checked against Python type hints. Only the standard library is imported.

A hint is Any, None, str, int, float, bool, list, dict, a union, list[X], tuple[X, ...] or tuple[X, Y] (JSON
lists), dict[str, X], a TypedDict (which allows additional keys) or a dataclass (which does not).
"""

from __future__ import annotations

import dataclasses
import json
import math
import reprlib
import types
import typing
from typing import Any, NoReturn

MAX_DEPTH = 32  # nesting levels of lists and objects
LONGEST_KEY = 40  # characters of a key that a message repeats as it is
NAMES: dict[type, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    tuple: "a list",
    dict: "an object",
    type(None): "null",
}


class Mismatch(ValueError):
    """A value that does not have the expected type. The message names its place in the JSON document."""


def parse(text: str | bytes, hint: Any = Any) -> Any:
    """Decode JSON and check it against a type hint.

    Args:
        text: JSON document; bytes are decoded as UTF-8.
        hint: type hint of the value, see the module docstring.

    Raises:
        Mismatch: the value does not match the hint; a key occurs twice in an object; a number is not finite
            or needs more than 64 bits; a text is not Unicode.
        ValueError: the text is not JSON or is nested too deeply.
    """
    text = text.decode("utf-8") if isinstance(text, bytes) else text
    try:
        value = json.loads(text, object_pairs_hook=_object_without_duplicates)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    _check_plain(value, "", MAX_DEPTH)
    check(value, hint)
    return value


def check(value: Any, hint: Any, place: str = "") -> None:
    """Check a value against a type hint.

    Args:
        place: path of the value in its document, for the message.

    Raises:
        Mismatch: the value does not match; the message names the first wrong place.
    """
    kind, arguments = typing.get_origin(hint) or hint, typing.get_args(hint)
    if kind is Any:
        return
    if kind in (typing.Union, types.UnionType):
        _check_union(value, arguments, place)
    elif dataclasses.is_dataclass(kind) or typing.is_typeddict(kind):
        _check_object(value, kind, place)
    elif kind in (list, tuple):
        _check_list(value, kind, arguments, place)
    elif kind is dict:
        _expect(isinstance(value, dict), value, dict, place)
        for key, entry in value.items() if arguments else ():
            check(entry, arguments[1], _join(place, key))
    elif kind is float:
        _expect(type(value) in (int, float), value, float, place)
    else:
        kind = type(None) if kind is None else kind
        _expect(type(value) is kind, value, kind, place)


def _check_union(value: Any, hints: tuple[Any, ...], place: str) -> None:
    """Check that a value matches one member of a union.

    Raises:
        Mismatch: the value matches no member; the message is that of the last member other than None.
    """
    mismatch = Mismatch(f"{place or 'it'} matches no type")
    for hint in hints:
        try:
            return check(value, hint, place)
        except Mismatch as error:
            mismatch = mismatch if hint is type(None) else error
    raise mismatch


def _check_object(value: Any, kind: Any, place: str) -> None:
    """Check the keys and values of an object against a dataclass or a TypedDict."""
    _expect(isinstance(value, dict), value, dict, place)
    hints = typing.get_type_hints(kind)
    if dataclasses.is_dataclass(kind):
        fields = dataclasses.fields(kind)
        hints = {field.name: hints[field.name] for field in fields}
        required = {f.name for f in fields if f.default is f.default_factory is dataclasses.MISSING}
        for key in value.keys() - hints.keys():
            raise Mismatch(f"{_join(place, key)} is unknown")
    else:
        required = kind.__required_keys__
    for key in sorted(required - value.keys()):
        raise Mismatch(f"{_join(place, key)} is missing")
    for key in hints.keys() & value.keys():
        check(value[key], hints[key], _join(place, key))


def _check_list(value: Any, kind: type, arguments: tuple[Any, ...], place: str) -> None:
    """Check the length and the entries of a list."""
    _expect(isinstance(value, (list, tuple)), value, list, place)
    hints = list(arguments) or [Any, ...]
    if kind is list or hints[-1] is ...:
        hints = hints[:1] * len(value)
    if len(value) != len(hints):
        raise Mismatch(f"{place or 'it'} has {len(value)} entries, expected {len(hints)}")
    for number, (entry, hint) in enumerate(zip(value, hints, strict=True)):
        check(entry, hint, f"{place}[{number}]")


def _check_plain(value: Any, place: str, depth: int) -> None:
    """Refuse values that Python's JSON decoder accepts but files, terminals and arithmetic do not.

    Args:
        depth: number of nesting levels still allowed.

    Raises:
        Mismatch: a text is not Unicode, or a number is not finite or needs more than 64 bits.
        ValueError: the value is nested too deeply.
    """
    if isinstance(value, (dict, list)):
        if not depth:
            raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")
        if isinstance(value, dict):
            for key, entry in value.items():
                _check_plain(key, place, depth)
                _check_plain(entry, _join(place, key), depth - 1)
        else:
            for number, entry in enumerate(value):
                _check_plain(entry, f"{place}[{number}]", depth - 1)
    elif isinstance(value, str):
        if "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
            raise Mismatch(f"{place or 'it'} holds {reprlib.repr(value)}, which is not Unicode text")
    elif isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            _refuse_number(value, place)
    elif isinstance(value, float) and not math.isfinite(value):
        _refuse_number(value, place)


def _refuse_number(value: float, place: str) -> NoReturn:
    raise Mismatch(f"{place or 'it'} is {reprlib.repr(value)}, which is not a finite 64-bit number")


def _object_without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        keys = [key for key, _ in pairs]
        raise Mismatch(f"{next(key for key in keys if keys.count(key) > 1)!r} occurs twice")
    return result


def _join(place: str, key: str) -> str:
    """Return the path of an object's entry."""
    shown = key if key.isprintable() and len(key) <= LONGEST_KEY else reprlib.repr(key)
    return f"{place}.{shown}" if place else shown


def _expect(matches: bool, value: Any, kind: type, place: str) -> None:
    if not matches:
        raise Mismatch(f"{place or 'it'} is {reprlib.repr(value)}, expected {NAMES[kind]}")
