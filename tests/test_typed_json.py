"""JSON checked against type hints: a value that matches passes, one that does not is named with its place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypedDict

import pytest

from pipelines import typed_json


@dataclass(frozen=True)
class Sizes:
    width: int
    rate: float = 0.5
    names: list[str] = field(default_factory=list)


class Entry(TypedDict):
    sha256: str


class File(TypedDict, total=False):
    best: Entry | None
    sizes: Sizes
    pairs: dict[str, tuple[int, bool]]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ('{"best": null, "sizes": {"width": 3, "rate": 1}, "pairs": {"a": [1, true]}, "more": [1]}', File),
        ('{"best": {"sha256": "x"}}', File),
        ("{}", File),
        ("[1, 2]", list[int]),
        ("[]", tuple[str, ...]),
        ("null", int | None),
        ('{"a": 1.5}', dict[str, float]),
        ('"\U0001f600"', str),
    ],
)
def test_what_fits(text: str, hint: Any) -> None:
    typed_json.parse(text.encode(), hint)


@pytest.mark.parametrize(
    ("text", "hint", "message"),
    [
        ("1", File, "it is 1, expected an object"),
        ('{"best": 3}', File, "best is 3, expected an object"),
        ('{"best": {}}', File, r"best\.sha256 is missing"),
        ('{"best": {"sha256": []}}', File, r"best\.sha256 is \[\], expected text"),
        ('{"sizes": {}}', File, r"sizes\.width is missing"),
        ('{"sizes": {"width": 3.5}}', File, r"sizes\.width is 3\.5, expected a whole number"),
        ('{"sizes": {"width": true}}', File, r"sizes\.width is True, expected a whole number"),
        ('{"sizes": {"width": 1, "height": 2}}', File, r"sizes\.height is unknown"),
        ('{"sizes": {"width": 1, "names": ["a", null]}}', File, r"sizes\.names\[1\] is None, expected text"),
        ('{"pairs": {"a": [1]}}', File, r"pairs\.a has 1 entries, expected 2"),
        ('{"a": 1, "a": 2}', Any, "'a' occurs twice"),
        ("[NaN]", Any, r"\[0\] is nan, which is not a finite 64-bit number"),
        ("1e999", Any, "it is inf, which is not a finite 64-bit number"),
        ("18446744073709551616", Any, "not a finite 64-bit number"),
        (r'{"a": "\ud800"}', Any, "a holds .*, which is not Unicode text"),
        (r'{"\u0000": 1}', Any, "which is not Unicode text"),
    ],
)
def test_what_does_not_fit_is_named(text: str, hint: Any, message: str) -> None:
    with pytest.raises(typed_json.Mismatch, match=message):
        typed_json.parse(text, hint)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"[" * 40 + b"]" * 40, "nested more than 32 levels deep"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": ', "Expecting value"),
        (b"\xff\xfe", "utf-8"),
        (b"9" * 5000, "digits"),
    ],
)
def test_what_is_no_json(text: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        typed_json.parse(text)
