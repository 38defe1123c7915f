"""What JSON must look like, told by Python's own type hints and checked. Light to import.

A hint is Any, None, str, int, float, bool, list, dict, a union, list[X], tuple[X, ...] or tuple[X, Y] (JSON lists), dict[str, X],
a TypedDict (further keys may follow) or a dataclass (they may not).
"""

from __future__ import annotations

import dataclasses
import json
import math
import reprlib
import types
import typing
from typing import Any

DEEPEST = 32  # lists and objects within each other
NAMES = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}
NAMES |= {tuple: "a list", type(None): "null"}


class Misfit(ValueError):
    """A value of another shape; the message names its place."""


def parse(text: str | bytes, hint: Any = Any) -> Any:
    """JSON in UTF-8 as values that fit the hint.

    Raises:
        Misfit: they do not fit; a key stands twice; a number is not finite or has more than 64 bits; text that is not Unicode.
        ValueError: it is not JSON, or nests too deep.
    """
    text = text.decode("utf-8") if isinstance(text, bytes) else text
    try:
        value = json.loads(text, object_pairs_hook=_distinct)
    except RecursionError:
        raise ValueError("it nests too deep") from None
    _plain(value, "", DEEPEST)
    fit(value, hint)
    return value


def fit(value: Any, hint: Any, place: str = "") -> None:
    """Refuse a value that is not of the hinted type.

    Raises:
        Misfit: naming the first place that is wrong.
    """
    kind, arguments = typing.get_origin(hint) or hint, typing.get_args(hint)
    if kind is Any:
        return
    if kind in (typing.Union, types.UnionType):
        _fit_one(value, arguments, place)
    elif dataclasses.is_dataclass(kind) or typing.is_typeddict(kind):
        _fit_object(value, kind, place)
    elif kind in (list, tuple):
        _fit_list(value, kind, arguments, place)
    elif kind is dict:
        _expect(isinstance(value, dict), value, dict, place)
        for key, entry in value.items() if arguments else ():
            fit(entry, arguments[1], _within(place, key))
    elif kind is float:
        _expect(type(value) in (int, float), value, float, place)
    else:
        _expect(type(value) is (type(None) if kind is None else kind), value, kind, place)


def _fit_one(value: Any, hints: tuple[Any, ...], place: str) -> None:
    """Refuse a value that fits no part of a union."""
    misfit = None
    for hint in hints:
        try:
            return fit(value, hint, place)
        except Misfit as error:
            misfit = misfit if hint is type(None) else error
    raise misfit


def _fit_object(value: Any, kind: type, place: str) -> None:
    _expect(isinstance(value, dict), value, dict, place)
    hints = typing.get_type_hints(kind)
    if dataclasses.is_dataclass(kind):
        of_instances = dataclasses.fields(kind)
        hints = {field.name: hints[field.name] for field in of_instances}
        required = {f.name for f in of_instances if f.default is f.default_factory is dataclasses.MISSING}
        for key in value.keys() - hints.keys():
            raise Misfit(f"{_within(place, key)} is unknown")
    else:
        required = kind.__required_keys__
    for key in sorted(required - value.keys()):
        raise Misfit(f"{_within(place, key)} is missing")
    for key in hints.keys() & value.keys():
        fit(value[key], hints[key], _within(place, key))


def _fit_list(value: Any, kind: type, arguments: tuple[Any, ...], place: str) -> None:
    _expect(isinstance(value, (list, tuple)), value, list, place)
    hints = list(arguments) or [Any, ...]
    if kind is list or hints[-1] is ...:
        hints = hints[:1] * len(value)
    if len(value) != len(hints):
        raise Misfit(f"{place or 'it'} has {len(value)} entries, expected {len(hints)}")
    for number, (entry, hint) in enumerate(zip(value, hints, strict=True)):
        fit(entry, hint, f"{place}[{number}]")


def _plain(value: Any, place: str, depth: int) -> None:
    """Refuse what JSON lets through and files, terminals and arithmetic do not bear."""
    if isinstance(value, (dict, list)):
        if not depth:
            raise ValueError(f"it nests more than {DEEPEST} deep")
        for key, entry in value.items() if isinstance(value, dict) else enumerate(value):
            _plain(key, place, depth)
            _plain(entry, f"{place}[{key}]" if isinstance(value, list) else _within(place, key), depth - 1)
    elif isinstance(value, str) and (
        "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value)
    ):
        raise Misfit(f"{place or 'it'} holds {reprlib.repr(value)}, which is not Unicode text")
    elif (
        isinstance(value, int)
        and not -(2**63) <= value < 2**63
        or isinstance(value, float)
        and not math.isfinite(value)
    ):
        raise Misfit(f"{place or 'it'} is {reprlib.repr(value)}, which is no finite number of 64 bits")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise Misfit(f"{next(key for key in keys if keys.count(key) > 1)!r} stands twice")
    return found


def _within(place: str, key: str) -> str:
    shown = key if key.isprintable() and len(key) <= 40 else reprlib.repr(key)
    return f"{place}.{shown}" if place else shown


def _expect(fits: bool, value: Any, kind: Any, place: str) -> None:
    if not fits:
        raise Misfit(
            f"{place or 'it'} is {reprlib.repr(value)}, expected {NAMES[type(None) if kind is None else kind]}"
        )
